"""Quantisation to power-of-two grids, conversion of ANNs to spikes, and the model folders that they make."""

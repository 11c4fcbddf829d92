"""Layers that the detectors share: spiking neurons, convolutions, blocks, pooling and heads."""

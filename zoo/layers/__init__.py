"""Layers that several families of detectors share: spiking neurons, surrogate gradients, convolutions and pooling."""

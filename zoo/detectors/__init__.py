"""Detectors, one file per published architecture, and what they share: decoding, prediction, registry."""

"""Spiking-YOLO."""

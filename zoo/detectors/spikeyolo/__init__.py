"""SpikeYOLO."""

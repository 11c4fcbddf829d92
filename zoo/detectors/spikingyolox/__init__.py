"""SpikingYOLOX."""

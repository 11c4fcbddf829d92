"""Data sets, pictures, and how they become tensors."""

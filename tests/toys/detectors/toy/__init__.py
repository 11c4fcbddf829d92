"""A toy family: one room."""

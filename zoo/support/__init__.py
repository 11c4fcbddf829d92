"""Helpers that know nothing of detectors: files that appear whole, and progress bars."""

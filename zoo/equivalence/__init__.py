"""Spike-for-spike comparison: verification, runners, reports, recorded traces, and the conformance suite."""

"""EAS-SNN."""

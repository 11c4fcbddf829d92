"""Training in snnTorch: assignment, losses, schedule, checkpoints and the loop."""

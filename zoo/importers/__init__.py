"""Reading the checkpoints that authors published."""

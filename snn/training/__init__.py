"""Training: one epoch, all epochs, checkpoints, devices."""

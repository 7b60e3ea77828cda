"""The flags of a training."""

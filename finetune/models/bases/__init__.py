"""Base models: loaded, quantised, and what they need to train."""

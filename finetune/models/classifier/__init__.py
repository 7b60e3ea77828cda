"""The classifier: texts to labels."""

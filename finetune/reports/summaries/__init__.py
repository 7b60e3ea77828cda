"""The end of a summarizer's training: scored against the base and against the first sentences."""

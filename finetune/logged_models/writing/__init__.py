"""A checkpoint written into its run as a model."""

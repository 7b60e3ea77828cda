"""A model in MLflow: written, found, opened."""

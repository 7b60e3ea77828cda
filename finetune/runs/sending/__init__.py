"""What a training logs: on disk first, then in MLflow."""

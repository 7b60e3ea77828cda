"""One MLflow run from begin to end."""

"""Files that somebody else may have written, looked at before they are opened."""

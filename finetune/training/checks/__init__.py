"""Before a training: what could not work, and what it will take."""

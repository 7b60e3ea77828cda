"""From a data set to what the Trainer takes."""

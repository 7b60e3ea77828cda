"""ROUGE of summaries: a local `evaluate` module over the rouge-score library."""

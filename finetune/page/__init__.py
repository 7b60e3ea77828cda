"""The page of try_model.py: one model asked, judged and corrected, on this machine alone."""

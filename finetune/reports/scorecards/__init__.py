"""What the scorecards of more than one task, or of more than one model, have in common."""

"""Adapters that other programs have trained, taken into a run of their own."""

"""Exports of a model: written, their answers compared with the trained model's, and logged."""

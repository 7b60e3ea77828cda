"""Weights of a base on their way into a logged model: merged, copied beside an adapter, quantised once."""

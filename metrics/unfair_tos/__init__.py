"""LexGLUE's scores for UNFAIR-ToS; see unfair_tos.py."""

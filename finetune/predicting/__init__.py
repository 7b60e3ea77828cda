"""What predict.py alone needs."""

"""What travels with a logged model: what a trained model is, how it is restored and asked."""

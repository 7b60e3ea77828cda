"""What happens between the Trainer's lines."""

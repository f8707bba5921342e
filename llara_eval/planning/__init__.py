"""What encoding and training will take, before they start: tokens, time, memory and disk."""

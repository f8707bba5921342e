"""Training that every system shares: contrastive fine-tuning, one loop, states to resume from, mining."""

"""Training that every system shares: contrastive fine-tuning, one loop, checkpoints that resume."""

"""Texts to vectors in memory: templates, batches, engines and what a model can do; no file of vectors."""

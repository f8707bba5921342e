"""Vectors and token ids on disk or at a URL, made by many workers and kept by their content."""

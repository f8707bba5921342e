"""Data sets from a name, a folder or memory, and their overlap with training files."""

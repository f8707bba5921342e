"""The generators of cases, a module for each class."""

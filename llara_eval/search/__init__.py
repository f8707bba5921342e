"""The exact nearest vectors of a store: candidates, exact scores, and smaller vectors to search first."""

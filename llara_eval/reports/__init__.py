"""Comparisons, means, reproduction and the leaderboard: pure functions of stored results."""

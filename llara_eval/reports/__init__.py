"""What is shown: comparisons, means, the leaderboard, all pure functions of stored results."""

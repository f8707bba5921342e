"""Systems are run on data sets, and each outcome is kept as a record that can be scored again."""

"""The ground: errors, records, files, locks and paths; it knows no model and no data set."""

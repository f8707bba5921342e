"""From hits to a run, and from a run to numbers: one order of ties, measures, intervals and tests."""

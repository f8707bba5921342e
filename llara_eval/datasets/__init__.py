"""A name becomes documents, queries and judgements, and what of them a system was trained on."""

"""A name, a folder or memory → documents, queries and judgements; and what of them was trained on."""

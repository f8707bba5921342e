"""A folder on disk becomes an encoder, and an encoder a folder that other libraries open."""

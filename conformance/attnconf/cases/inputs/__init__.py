"""From a Case to tensors: logical queries, keys and values with witnesses in them, then pages, poison and tables."""

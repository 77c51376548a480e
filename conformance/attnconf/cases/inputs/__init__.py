"""From a Case to tensors: logical queries, keys and values with witnesses, then pages, poison and tables."""

"""Plans: which runner of a fleet proves which cell, before anything runs."""

"""Gate: what runs proved, as receipts, and whether it is enough."""

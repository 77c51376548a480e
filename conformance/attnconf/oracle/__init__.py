"""The oracle: float64 attention from logical keys and values. It sees no page, and imports nothing that it judges."""

"""One file an engine: where its layer calls pass, and what they say in our words."""

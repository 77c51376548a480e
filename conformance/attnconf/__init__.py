"""attnconf: the contract of paged-KV attention backends, and the suite that checks it."""

__version__ = "0.1.0"

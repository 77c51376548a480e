"""The version of attnconf, as receipts and plans record it."""

__version__ = "0.1.0"

"""Code for all backends over FlashInfer: the package, its import, its compiled modules and their kernel cache."""

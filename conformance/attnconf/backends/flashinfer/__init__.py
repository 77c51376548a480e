"""What every backend over FlashInfer shares: the package, its import, its compiled modules and their kernel cache."""

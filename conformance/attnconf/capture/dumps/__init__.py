"""FlashInfer's dumps of level 10 (``FLASHINFER_LOGLEVEL=10``) as layer calls."""

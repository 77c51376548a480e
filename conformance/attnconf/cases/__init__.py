"""Cases: one conformance question as a value, as tensors (``inputs``), and as it is drawn (``drawing``)."""

"""flashinfer_fa2, flashinfer_fa3: FlashInfer's own paged wrappers, as peers."""

from attnconf.backends.flashinfer.fa.backend import FlashInferFa, make_fa2, make_fa3

__all__ = ["FlashInferFa", "make_fa2", "make_fa3"]

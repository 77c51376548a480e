"""Compiled: FlashInfer's own selector, built by nvcc from an installed wheel and asked without a GPU.

``questions.cu`` includes ``fmhaKernels.cuh`` itself over a driver that launches nothing. It is the cross-check of
``selector``, and the answer for a release of which attnconf has no model but this machine has the list.
"""

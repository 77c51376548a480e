"""trtllm-gen: which of FlashInfer's precompiled kernels for the SM100 family exist, and which one a launch selects.

Both are asked on a CPU: the kernels are a list that FlashInfer publishes (``metainfo``, ``derived``), and the
selection is host code in its wheel (``selector``). Read ``prediction`` first: it answers a question with kernels, with
the key for which there is none, or with why attnconf cannot tell. An answer is about existence, never correctness.
"""

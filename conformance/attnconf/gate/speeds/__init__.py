"""Speeds: receipts of timed kernels, and what they and paired serving runs prove of a policy's claims."""

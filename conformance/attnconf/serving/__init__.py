"""Serving: a machine that plays the scheduler over paged memory, and judges every batch that it makes."""

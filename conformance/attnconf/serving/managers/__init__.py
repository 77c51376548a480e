"""Whose memory: our own small pool, and the engines' real managers, each behind one protocol."""

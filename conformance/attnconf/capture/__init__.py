"""Capture: what a running engine asks of its attention layers becomes case files; no tensor's contents do."""

"""Speeds: what measured times say, of two backends as a ratio with an interval and a verdict; it measures nothing."""

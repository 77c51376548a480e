"""Campaigns: many cases until one fails, over hours, machines, and the mutants."""

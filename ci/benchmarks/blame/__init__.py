"""How often the clause that is cited first is the one that a fault breaks: ``python -m ci.benchmarks.blame``."""

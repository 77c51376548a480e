"""Serving: request conservation in the result of a serving benchmark. A request that is submitted must not vanish."""

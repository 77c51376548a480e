"""Drawing: which cases a profile asks, drawn from a counter by choices that are biased to borders."""

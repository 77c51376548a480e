"""Drawing: which cases a profile asks, drawn by Hypothesis strategies that are biased to borders."""

"""Drawing: which cases a profile asks, by Hypothesis strategies that lean to borders."""

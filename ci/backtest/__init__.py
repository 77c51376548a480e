"""The backtest: the suite, unmodified, against releases that had a bug and against those that fixed it."""

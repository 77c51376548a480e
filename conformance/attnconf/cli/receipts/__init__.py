"""Commands about receipts: the gate, and how receipts are shown, merged and signed."""

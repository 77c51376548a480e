"""The clauses of the contract, executable: one file a family."""

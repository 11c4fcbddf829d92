"""What is measured and kept: the ledger of results, speed, activity, and the papers' claims."""

"""Detection heads: one file each with its module, its decoding and its loss."""

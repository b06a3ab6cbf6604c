"""The ledger: the audit log as a Merkle tree. ``sequence`` appends (pure); ``reader`` answers."""

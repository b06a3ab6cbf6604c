"""The connector: one institution's own side of the exchange, which checks all the hub says."""

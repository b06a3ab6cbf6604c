"""Doors: where bytes and people come in. A door authenticates, and asks intake and the queries."""

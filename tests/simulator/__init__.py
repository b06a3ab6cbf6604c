"""A hub in memory that can be told to be dishonest, and institutions with real connectors."""

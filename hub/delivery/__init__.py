"""Delivery: accepted messages on their way to their recipients."""

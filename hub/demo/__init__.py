"""The demo: real public records travel through real processes on one machine."""

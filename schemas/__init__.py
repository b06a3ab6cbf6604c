"""The contract: everything that two parties must compute alike.

Pure by rule: no I/O, no clock, no randomness. ``now`` and random bytes are arguments. Both the hub
and the connectors import this package; it imports neither.
"""

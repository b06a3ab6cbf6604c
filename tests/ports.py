"""TCP ports of 127.0.0.1 for the servers of tests."""

import os

from hub.demo import program


def divide() -> None:
    """Leave each of several workers its own ports: two may look for one at the same moment."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    program.PORTS = program.PORTS[number::workers]


def free_port() -> int:
    """One that nobody listens at, nor any system gives to who connects.

    So a server can be stopped and started again at its place, and a second one can listen at the
    same port of another address.
    """
    return program.free_ports(1)[0]

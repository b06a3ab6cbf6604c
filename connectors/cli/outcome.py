"""How a command ends otherwise than done (0): each way has its exit code, stable for scripts.

1 the thing asked about is not so · 2 usage (click's own) · 3 cannot reach · 4 refused
"""

import click

from connectors.cli.output import clean


class _Ended(click.ClickException):
    def format_message(self) -> str:
        """Its lines; whoever wrote parts of them, nothing in them can steer a terminal."""
        return "\n".join(map(clean, self.message.split("\n")))


class NotSo(_Ended):
    """What was asked about is not so, or what was to be done cannot be."""

    exit_code = 1


class Mistaken(_Ended):
    """What was given cannot be understood: a message file, a bundle, the settings."""

    exit_code = 2


class Unreached(_Ended):
    """The hub, or the daemon, does not answer."""

    exit_code = 3


class RefusedByHub(_Ended):
    """The hub said no, or by its rules would have to."""

    exit_code = 4

"""Making what a stranger wrote safe to be shown to a person."""

MAX_SHOWN = 500
"""Characters of a stranger's text in one sentence."""


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """A text on one line, cut, without what moves a cursor or turns a line around.

    What the hub says ends up in logs and on terminals, where escape sequences and bidirectional
    overrides can make one sentence look like another.
    """
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)

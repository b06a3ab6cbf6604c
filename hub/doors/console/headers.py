"""What the console tells browsers with every answer: what it may load, and from where.

Nothing is loaded but our own style sheet, script, pictures and events; no other page may show ours
in a frame; nothing is kept in a cache, and no address of ours is told to anybody.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content Security Policy Level 3. No nonce is needed: nothing stands in the page itself."""

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
)

"""One request to the console: who comes, in which language, and what their form says."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
from aiohttp import web
from yarl import URL

from hub.doors.access import CONSOLE, Principal, Role
from hub.doors.console.pages import Frame, Pages
from hub.doors.console.sessions import Session
from hub.doors.service import Asked, Service, arriving
from schemas.refusal import Refused

START = "/console/"
SIGN_IN = "/console/login"

MENU: Final = (
    START,
    "/console/search",
    "/console/members",
    "/console/webhooks",
    "/console/quarantine",
    "/console/checkpoints",
    "/console/settings",
)
"""The pages that every page leads to, for whoever may open them."""

_SHOWN_ROLES: Final = (Role.OPERATOR, Role.AUDITOR, Role.MEMBER, Role.PARTNER, Role.OBSERVER)
"""What somebody is called who is signed in; the first of theirs counts."""

FIELDS: Final = 300
"""Of a form, at most: one has a box for every theme, goal and participant."""

T = TypeVar("T")


class Visit(msgspec.Struct, frozen=True):
    """A request. ``fields`` are those of the form, without the session's mark."""

    hub: Service
    pages: Pages
    request: web.Request
    language: str
    session: Session | None = None
    fields: Mapping[str, str] = {}

    @property
    def principal(self) -> Principal:
        """Who is signed in; asked only on pages for somebody who is."""
        assert self.session is not None
        return self.session.principal

    @property
    def asked(self) -> Asked:
        """The same request, for the functions of the JSON routes."""
        return Asked(self.request, self.principal, None)

    def page(
        self, template: str, view: object, status: int = 200, here: str | None = None
    ) -> web.Response:
        """An answer with a page; ``here`` is where to read on in another language."""
        html = self.pages.render(template, view, self._frame(here or self._here()))
        return web.Response(text=html, status=status, content_type="text/html")

    def form(self, into: type[T]) -> T:
        """The form's fields as a struct.

        Raises:
            Refused: ``bad-request``: they are not of that form.
        """
        try:
            return msgspec.convert(self.fields, into, strict=False)
        except msgspec.ValidationError as error:
            raise Refused("bad-request", f"{error}.") from None

    def _here(self) -> str:
        """The page's own address, or the first of the menu where only a form may be sent there."""
        resource = self.request.match_info.route.resource
        if resource is not None and ("GET", resource.canonical) in CONSOLE:
            return str(self.request.rel_url.without_query_params("lang"))
        return START if self.session is None else menu(self.principal.roles)[0]

    def _frame(self, here: str) -> Frame:
        session = self.session
        frame = Frame(
            origin=self.hub.settings.origin,
            language=self.language,
            path=self.request.rel_url.path,
            here=here,
            size=self.hub.recorder.state.tree.size,
        )
        if session is None:
            return frame
        return msgspec.structs.replace(
            frame,
            account=session.principal.name.removeprefix("account:"),
            role=next(role for role in _SHOWN_ROLES if role in session.principal.roles),
            menu=menu(session.principal.roles),
            csrf=session.csrf,
        )


def menu(roles: frozenset[Role]) -> Sequence[str]:
    """What of the menu somebody may open."""
    return [path for path in MENU if roles & CONSOLE["GET", path]]


def see(path: str) -> web.Response:
    """Send the browser to another page of the console, by GET (RFC 9110 §15.4.4)."""
    return web.Response(status=303, headers={"Location": path})


def local(target: str) -> str:
    """An address that somebody wants to go on to, if it is one of a page of ours; else the start.

    Nothing else may follow signing in: a link of a stranger's would lead on to their own site.
    """
    try:
        path = URL(target).path
    except ValueError:
        return START
    # A browser takes a backslash for a slash, drops line ends, and goes up at two dots.
    plain = target.isascii() and target.isprintable() and "\\" not in target
    ours = target.startswith(START) and path not in {SIGN_IN, f"{START}logout"}
    return target if plain and ours and ".." not in path and "//" not in path else START


async def fields(request: web.Request) -> dict[str, str]:
    """The fields of a form that was posted.

    Raises:
        Refused: ``bad-request``: it is no form, or a field stands twice; ``too-slow``.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refused("bad-request", "Send a form from a page of the console.")
    raw = await arriving(request.read())
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS
        )
    except ValueError:
        raise Refused("bad-request", "The form cannot be read.") from None
    for name, value in pairs:
        if name in found:
            raise Refused("bad-request", f"The field {name} stands twice.")
        found[name] = value.replace("\r\n", "\n")
    return found


def check_origin(hub: Service, request: web.Request) -> None:
    """Whether a form was sent from a page of ours.

    Browsers say so themselves (Fetch Metadata); an older one names the origin of the page.

    Raises:
        Refused: ``forbidden``.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        ours = site == "same-origin"
    else:
        own = urlsplit(hub.settings.url)
        ours = request.headers.get("Origin") == f"{own.scheme}://{own.netloc}"
    if not ours:
        raise Refused("forbidden", "The form did not come from a page of this console.")

"""The console of a real hub in a real browser: traffic to look at, and people who are signed in.

``NHRI_SCREENSHOTS=1`` makes the tests leave pictures of every page in ``docs/screenshots``.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, ViewportSize

from schemas import cosignature, witness
from schemas.acceptance import Delivery
from tests import builders, client
from tests.client import ORIGIN, Clock, Hub, Participant

PAGES: Mapping[str, str] = {
    "overview": "/console/",
    "search": "/console/search",
    "checkpoints": "/console/checkpoints",
    "settings": "/console/settings",
    "members": "/console/members",
    "member": "/console/members/kz",
    "no-webhooks": "/console/webhooks",
    "quarantine": "/console/quarantine",
}
"""Every page for somebody who is signed in, by the name of its picture."""

PHONE = ViewportSize(width=390, height=844)
NARROW = ViewportSize(width=320, height=640)
"""A desktop at 400 %: nobody has to scroll sideways (WCAG 2.2, 1.4.10)."""
DESKTOP = ViewportSize(width=1280, height=800)

NAMES = {
    "kz": {
        "en": "Commissioner for Human Rights in the Republic of Kazakhstan",
        "ru": "Уполномоченный по правам человека в Республике Казахстан",
        "kk": "Қазақстан Республикасындағы Адам құқықтары жөніндегі уәкіл",
    },
    "kg": {
        "en": "Akyikatchy (Ombudsman) of the Kyrgyz Republic",
        "ru": "Акыйкатчы (Омбудсмен) Кыргызской Республики",
        "ky": "Кыргыз Республикасынын Акыйкатчысы",
    },
    "tj": {
        "en": "Commissioner for Human Rights in the Republic of Tajikistan",
        "ru": "Уполномоченный по правам человека в Республике Таджикистан",
        "tg": "Ваколатдор оид ба ҳуқуқи инсон дар Ҷумҳурии Тоҷикистон",
    },
    "tm": {
        "en": "Ombudsman of Turkmenistan",
        "ru": "Омбудсмен Туркменистана",
        "tk": "Türkmenistanyň Ombudsmeni",
    },
    "uz": {
        "en": "Authorized Person of the Oliy Majlis for Human Rights (Ombudsman)",
        "ru": "Уполномоченный Олий Мажлиса по правам человека (омбудсман)",
        "uz-Latn": "Oliy Majlisning Inson huquqlari boʻyicha vakili (ombudsman)",
    },
    "undp": {"en": "United Nations Development Programme"},
}

LOOKS = {("en", "desktop", "light"): "", ("kk", "phone", "dark"): "-phone"}
"""The looks that the documents show, with the endings of their pictures' names."""

NOT_SHOWN = {"quarantine", "no-webhooks"}
"""Pages that are empty here; ``test_quarantine.py`` and ``test_webhooks.py`` have full ones."""

_FOLDER = rf"{tempfile.gettempdir()}/[^/\s]+/hub"
"""Where the hub of a test has its files; in a picture it is where a hub has them."""

_RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "resultTypes": ["violations"],
}
_SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"


class Console:
    """A hub with a history, a browser, and an operator and an auditor of that hub."""

    def __init__(self, hub: Hub, browser: Browser, clock: Clock) -> None:
        self.hub = hub
        self.browser = browser
        self.clock = clock
        self.url = hub.settings.url
        self.tokens: dict[str, str] = {}

    async def token(self, role: str) -> str:
        """The token of the account of this name, which has this scope."""
        if role not in self.tokens:
            self.tokens[role] = await self.hub.operator.token(role, role)
        return self.tokens[role]

    @contextlib.asynccontextmanager
    async def visitor(
        self,
        role: str | None = "operator",
        language: str = "en",
        size: ViewportSize = DESKTOP,
        scheme: str = "light",
        javascript: bool = True,
    ) -> AsyncIterator[Page]:
        """A window of its own, signed in where a role is given; scripts must throw nothing."""
        context = await self.browser.new_context(
            base_url=self.url,
            viewport=size,
            color_scheme="dark" if scheme == "dark" else "light",
            locale=language,
            java_script_enabled=javascript,
            reduced_motion="reduce",
        )
        complaints: list[str] = []
        try:
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.extend(_policy(said.text)))
            if role is not None:
                await self.sign_in(page, role)
            yield page
        finally:
            await context.close()
        assert complaints == []

    async def sign_in(self, page: Page, role: str) -> None:
        """Through the form, as everybody."""
        await page.goto("/console/login")
        await page.fill("input[name=token]", await self.token(role))
        await page.click("main button")
        await page.wait_for_url("**/console/")


def _policy(said: str) -> list[str]:
    """What the browser says of something that the content security policy keeps out."""
    return [said] if "Content Security Policy" in said else []


async def violations(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is shown, by WCAG 2.2 A and AA."""
    await page.wait_for_load_state()  # a click goes on before there are styles
    found = await Axe().run(page, options=_RULES)
    return [
        f"{rule['id']}: {', '.join(str(node['target']) for node in rule['nodes'])}"
        for rule in found.response["violations"]
    ]


async def sideways(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    await page.wait_for_load_state()
    return int(await page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


async def cut_labels(page: Page) -> list[str]:
    """Labels in a picture that stand beyond its edge, and cannot be read whole."""
    found = await page.evaluate(
        """() => [...document.querySelectorAll("svg.flow text")].filter((text) => {
          const own = text.getBoundingClientRect();
          const all = text.ownerSVGElement.getBoundingClientRect();
          return own.left < all.left || own.right > all.right;
        }).map((text) => text.textContent)"""
    )
    return [str(label) for label in found]


async def picture(page: Page, name: str, *look: str) -> None:
    """Leave a picture for the documents, if any are wanted and this is one of those looks."""
    if os.environ.get("NHRI_SCREENSHOTS") and look in LOOKS and name not in NOT_SHOWN:
        _SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await page.evaluate(
            """(folder) => document.querySelectorAll("dd code").forEach((code) => {
              code.textContent = code.textContent.replace(new RegExp(folder), "/var/lib/nhri-hub");
            })""",
            _FOLDER,
        )
        await page.screenshot(path=_SCREENSHOTS / f"{name}{LOOKS[look]}.png")


# --- The history ---


async def exchange(hub: Hub) -> None:
    """Everybody joins, sends and receives; something waits, something fails, some cosign."""
    them = {code: hub.participant(code) for code in NAMES}
    for code, names in NAMES.items():
        role = "partner" if code == "undp" else "member"
        answer = await hub.operator.post("/v1/members", code=code, role=role, names=names)
        assert answer.status == 201, answer
        await hub.operator.join_with(them[code], answer["invitation"])
    await hub.operator.invite("uz-nhrc")
    for sender, audience in _SENT:
        assert (await them[sender].send(audience=audience)).status == 201
    await agree(them["kz"], them["kg"])
    assert (await them["kz"].send(audience=["nobody"])).status == 422
    for code in ("kg", "tj", "uz"):
        found = await them[code].inbox()
        by_sender: dict[str, list[tuple[int, Delivery]]] = {}
        for position, delivery in found[:-1] if code == "uz" else found:
            by_sender.setdefault(client.sent(delivery).sender, []).append((position, delivery))
        for items in by_sender.values():
            answer = await them[code].post("/v1/receipts", them[code].receipt(*items))
            assert answer.status == 201, answer
    for code in ("kz", "kg", "tj", "tm"):
        await cosign(hub, code)


_SENT = (
    *((("kz", ["region"]),) * 4),
    *((("kg", ["region", "undp"]),) * 3),
    *((("tj", ["kz", "kg"]),) * 2),
    ("tm", ["region"]),
    *((("uz", ["kz", "tj"]),) * 2),
    ("undp", ["region"]),
)


async def agree(proposer: Participant, answering: Participant) -> None:
    """A joint action of two, which the one signs without a word."""
    texts = {"en": {"title": "A joint statement"}, "kk": {"title": "Бірлескен мәлімдеме"}}
    notice = builders.notice(**proposer.new(audience=[answering.code], texts=texts))
    content = {"action": "statement", "invited": [answering.code], "answer_by": builders.time(60)}
    notice["content"] = content
    wanted = answering.new(audience=[proposer.code], thread=notice["id"])
    response = builders.response("accept", notice, answering.code, **wanted)
    for who, message in ((proposer, notice), (answering, response)):
        assert (await who.submit(who.sign(message))).status == 201


async def cosign(hub: Hub, code: str) -> None:
    """A witness cosigns the candidate."""
    who = hub.participant(code)
    asked = await who.get("/v1/witness/request", old=0)
    accepted = witness.check(witness.parse(asked.body), {ORIGIN: hub.vkey}, {})
    name = cosignature.witness_name(ORIGIN, code)
    seconds = int(hub.service.clock().timestamp())
    line = cosignature.cosign(accepted.text, name, builders.key(f"{code} witness"), seconds)
    answer = await who.post("/v1/witness/response", witness.merge(accepted.note, [line]))
    assert answer.status == 200, answer

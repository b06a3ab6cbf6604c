"""The console's pages about messages at the door: who reads what, and what is recorded of it."""

import io
import json
import zipfile

import aiohttp
import msgspec
import pytest

from hub.store.queries import Queries
from schemas import acceptance, proof
from schemas.acceptance import Acceptance
from schemas.encoding import unb64url
from tests import builders
from tests.integration.hub.test_console import visiting

REASON = "Complaint 7/26 of the sender"
LATER = builders.time(24 * 60)


@pytest.fixture
async def operator(hub):
    async with visiting(hub) as made:
        await made.enter(await hub.operator.token("desk", "operator"))
        yield made


@pytest.fixture
async def auditor(hub):
    async with visiting(hub) as made:
        await made.enter(await hub.operator.token("anna", "auditor"))
        yield made


async def send(kz, **overrides):
    """Send a message: its id and its envelope."""
    message = kz.message(**overrides)
    envelope = kz.sign(message)
    assert (await kz.submit(envelope)).status == 201
    return message["id"], envelope


async def recorded(hub, kind):
    """Actor, subject and private part of the visitors' entries of a type."""
    events = (await hub.operator.get("/v1/audit/events", type=kind))["events"]
    found = [(e["entry"]["actor"], e["entry"]["subject"], e["private"]) for e in events]
    return [one for one in found if one[0] in {"account:anna", "account:desk"}]


async def submit(visitor, path, **fields):
    """Post a form of the visitor's session."""
    return await visitor.post(path, {"csrf": await visitor.csrf(), **fields})


async def evidence(answer):
    assert answer.status == 200, answer
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        return json.loads(archive.read("evidence.json"))


# --- What is recorded ---


async def test_a_search_is_recorded_with_its_question_before_it_is_answered(hub, auditor):
    await auditor.get("/console/search?sender=kz&since=2026-07-01&until=2026-07-01&thread=")
    assert await recorded(hub, "operator.query") == [
        (
            "account:anna",
            None,
            {
                "path": "/console/search",
                "query": {
                    "type": "message.accepted",
                    "sender": "kz",
                    "since": "2026-07-01T00:00:00.000Z",
                    "until": "2026-07-02T00:00:00.000Z",
                },
            },
        )
    ]


async def test_so_is_looking_at_a_message_and_taking_its_acceptance(hub, auditor, kz):
    sent, _ = await send(kz)
    for path in (f"/console/messages/{sent}", f"/console/messages/{sent}/acceptance"):
        assert (await auditor.get(path)).status == 200
    noted = [private for _, _, private in await recorded(hub, "operator.query")]
    assert noted == [
        {"path": f"/console/messages/{sent}", "query": sent},
        {"path": f"/console/messages/{sent}/acceptance", "query": sent},
    ]


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-13-01",
        "until=yesterday",
        "sdg=99",
        "theme=nothing",
        "text=!",
        "before=x",
        "before=-1",
        "before=" + "9" * 30,
    ],
)
async def test_what_cannot_be_searched_for_keeps_the_form_and_is_not_recorded(hub, auditor, query):
    answer = await auditor.get(f"/console/search?kind=x&{query}")
    assert answer.status == 400
    page = answer.body.decode()
    assert 'role="alert"' in page
    assert '<option value="x" selected>' in page
    assert await recorded(hub, "operator.query") == []


# --- The text ---


@pytest.mark.parametrize("what", ["text", "envelope", "evidence"])
async def test_an_auditor_has_no_way_to_the_text(hub, auditor, kz, what):
    sent, _ = await send(kz, marking="TLP:CLEAR")
    answer = await submit(auditor, f"/console/messages/{sent}/{what}", reason=REASON)
    assert answer.status == 403
    for path in ("/console/search", f"/console/messages/{sent}"):
        page = (await auditor.get(path)).body.decode()
        assert sent in page
        assert "A visit" not in page
    assert await recorded(hub, "operator.body_read") == []


@pytest.mark.parametrize("marking", ["TLP:AMBER", "TLP:AMBER+STRICT"])
async def test_above_green_an_operator_reads_with_a_reason_alone(hub, operator, kz, marking):
    sent, envelope = await send(kz, marking=marking, audience=["kg"])
    for path in ("/console/search", f"/console/messages/{sent}"):
        assert "A visit" not in (await operator.get(path)).body.decode()
    path = f"/console/messages/{sent}"
    for what in ("text", "envelope", "evidence"):
        refused = await submit(operator, f"{path}/{what}", reason="  short ")
        assert refused.status == 422
        assert "characters or more" in refused.body.decode()
    assert "At length." in (await submit(operator, f"{path}/text", reason=REASON)).body.decode()
    assert (await submit(operator, f"{path}/envelope", reason=REASON)).body == envelope
    taken = await evidence(await submit(operator, f"{path}/evidence", reason=REASON))
    assert unb64url(taken["envelope"]) == envelope
    read = await recorded(hub, "operator.body_read")
    assert {(actor, subject) for actor, subject, _ in read} == {("account:desk", sent)}
    assert [(private["reason"], private["outcome"]) for *_, private in read] == [
        *[("short", "reason-needed")] * 3,
        *[(REASON, "shown")] * 3,
    ]


async def test_up_to_green_it_needs_none_and_is_recorded_all_the_same(hub, operator, kz):
    sent, _ = await send(kz)
    assert "A visit" in (await operator.get("/console/search")).body.decode()
    path = f"/console/messages/{sent}/text"
    assert "At length." in (await submit(operator, path)).body.decode()
    assert len(await recorded(hub, "operator.body_read")) == 1


async def test_a_form_without_the_sessions_mark_reads_nothing(hub, operator, kz):
    sent, _ = await send(kz)
    answer = await operator.post(f"/console/messages/{sent}/text", {"reason": REASON})
    assert answer.status == 403
    assert "At length." not in answer.body.decode()
    assert await recorded(hub, "operator.body_read") == []


async def test_what_a_sender_wrote_is_only_ever_text(operator, kz):
    nasty = "<script>alert(1)</script>"
    texts = {"en": {"title": nasty, "summary": nasty, "body": nasty}}
    sent, _ = await send(kz, texts=texts)
    pages = [
        await operator.get("/console/search"),
        await operator.get(f"/console/messages/{sent}"),
        await submit(operator, f"/console/messages/{sent}/text"),
    ]
    for answer in pages:
        assert "<script>alert" not in answer.body.decode()
        assert "&lt;script&gt;alert" in answer.body.decode()


# --- Why not ---


async def answered(kz, kg, answer="decline", **overrides):
    """A notice of kz that kg answered: the ids of both."""
    notice = builders.notice(**kz.new(audience=["kg"], **overrides))
    notice["content"] = {"action": "visit", "invited": ["kg"], "answer_by": LATER}
    wanted = {"marking": notice["marking"], "audience": ["kz"], "thread": notice["id"]}
    response = builders.response(answer, notice, **kg.new(**wanted))
    for who, message in ((kz, notice), (kg, response)):
        assert (await who.submit(who.sign(message))).status == 201
    return notice["id"], response["id"]


async def test_an_answer_without_words_is_called_by_what_it_answers(hub, operator, kz, kg):
    notice, response = await answered(kz, kg, texts={"en": {"title": "A & B"}})
    for path in ("/console/search", f"/console/messages/{notice}"):
        page = (await operator.get(path)).body.decode()
        called = 'Declines: <bdi dir="auto">A &amp; B</bdi></a>'
        assert f'<a href="/console/messages/{response}">{called}' in page
    page = (await operator.get(f"/console/messages/{response}?lang=ru")).body.decode()
    assert 'Отказывается: <bdi dir="auto">A &amp; B</bdi></h1>' in page
    assert "<title>Отказывается: A &amp; B" in page


async def test_an_answer_has_no_title_for_whom_its_text_is_not(hub, operator, auditor, kz, kg):
    _, response = await answered(kz, kg)
    _, secret = await answered(kz, kg, marking="TLP:AMBER")
    page = (await auditor.get("/console/search")).body.decode()
    assert f"<code>{response}</code>" in page
    page = (await operator.get("/console/search")).body.decode()
    assert f"<code>{secret}</code>" in page
    assert page.count("Declines: ") == 1


async def test_a_message_that_was_refused_says_why_and_has_no_table(hub, auditor, kz):
    message = kz.message(audience=["nobody"])
    assert (await kz.submit(kz.sign(message))).status == 422
    page = (await auditor.get(f"/console/messages/{message['id']}")).body.decode()
    assert "The hub refused this message: unknown-recipient." in page
    assert "neither a participant nor a group" in page
    assert "why-heading" not in page


async def test_an_erased_message_keeps_its_proofs_and_its_recipients(hub, operator, kz):
    sent, _ = await send(kz)
    await hub.operator.post(f"/v1/messages/{sent}/erase", reason="The court ordered it so.")
    page = (await operator.get(f"/console/messages/{sent}")).body.decode()
    assert "Its content was erased by entry" in page
    assert "A visit" not in page
    assert "Show the text" not in page
    assert "erased" in (await operator.get("/console/search")).body.decode()
    taken = await evidence(await operator.get(f"/console/messages/{sent}/evidence"))
    assert taken["envelope"] is None


@pytest.mark.parametrize(
    "path",
    [
        f"/console/messages/{builders.message_id(99)}",
        f"/console/messages/{builders.message_id(99)}/acceptance",
        f"/console/messages/{builders.message_id(99)}/evidence",
        "/console/messages/x",
        "/console/entries/999999",
        "/console/entries/999999/proof",
        "/console/entries/-1/proof",
        "/console/entries/" + "9" * 40,
    ],
)
async def test_what_is_not_there_is_not_found(auditor, path):
    answer = await auditor.get(path)
    assert answer.status == 404
    assert "text/html" in answer.headers["Content-Type"]


# --- To take away ---


async def test_the_proof_of_every_entry_holds_under_the_logs_key(hub, auditor, kz):
    await send(kz)
    for index in range(await hub.size()):
        entry = (await auditor.get(f"/console/entries/{index}")).body
        said = (await auditor.get(f"/console/entries/{index}/proof")).body.decode()
        assert proof.parse(said).index == index
        proof.verify(proof.parse(said), entry, hub.vkey)


async def test_the_acceptance_is_the_one_that_the_sender_was_given(hub, auditor, kz):
    sent, _ = await send(kz)
    body = (await auditor.get(f"/console/messages/{sent}/acceptance")).body
    opened = acceptance.open_acceptance(msgspec.json.decode(body, type=Acceptance), hub.vkey)
    assert opened.entry.subject == sent


async def test_an_auditor_takes_evidence_without_the_message(hub, auditor, kz):
    sent, _ = await send(kz)
    taken = await evidence(await auditor.get(f"/console/messages/{sent}/evidence"))
    assert taken["envelope"] is None
    assert await recorded(hub, "operator.body_read") == []


async def test_an_export_has_what_the_form_asks_for_and_is_recorded(hub, auditor, kz):
    sent, _ = await send(kz)
    answer = await auditor.get("/console/search/export?sender=kz&kind=&format=ndjson")
    assert 'filename="log-' in answer.headers["Content-Disposition"]
    _, *rows, _ = map(json.loads, answer.body.decode().splitlines())
    assert [row["entry"]["subject"] for row in rows] == [sent]
    [(actor, _, private)] = await recorded(hub, "operator.export")
    assert (actor, private["path"]) == ("account:anna", "/console/search/export")
    assert private["query"] == {"type": "message.accepted", "sender": "kz"}


@pytest.mark.parametrize("query", ["", "format=xls", "format=csv&since=x"])
async def test_what_cannot_be_exported_is_refused_and_not_recorded(hub, auditor, query):
    assert (await auditor.get(f"/console/search/export?{query}")).status == 400
    assert await recorded(hub, "operator.export") == []


async def test_an_export_ends_with_its_session(hub, auditor, kz, monkeypatch):
    await send(kz)
    search = Queries.search

    async def signed_out_meanwhile(queries, wanted):
        found = await search(queries, wanted)
        await hub.operator.post("/v1/tokens/anna/revoke")
        return found

    monkeypatch.setattr(Queries, "search", signed_out_meanwhile)
    with pytest.raises(aiohttp.ClientPayloadError):
        await auditor.get("/console/search/export?type=&format=csv")


# --- In another language ---


@pytest.mark.parametrize(
    ("path", "here"),
    [
        ("/console/login", "/console/login"),
        ("/console/members/tm/suspend", "/console/members/tm/suspend"),
        (f"/console/messages/{builders.message_id(99)}/envelope", "/console/"),
        (f"/console/messages/{builders.message_id(99)}/text", "/console/"),
    ],
)
async def test_what_a_form_is_refused_with_can_be_read_in_another_language(operator, path, here):
    refused = await submit(operator, path)
    assert refused.status >= 400
    assert f'href="{here}?lang=tk"' in refused.body.decode()
    assert (await operator.get(f"{here}?lang=tk")).status == 200

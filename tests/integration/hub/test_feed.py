"""The public feed over a real hub: who gets what, what vanishes, and that its evidence holds."""

from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from hub.cli.evidence import cover
from schemas import entry as entries
from schemas import policy as policies
from schemas.encoding import format_time, unb64url
from schemas.evidence import archive
from schemas.evidence.check import check
from schemas.vocabulary import MARKINGS
from tests import atom, builders

CLEAR = "TLP:CLEAR"


@pytest.fixture
def reader(hub, clock):
    """Somebody without any token, who waits until what was kept is old."""

    async def get(path="/feed", headers=None, **query):
        clock.forward(seconds=10)
        return await hub.connection.request("GET", path, headers=headers, **query)

    return get


@pytest.fixture
def feed(reader):
    """A page of the feed, which is valid."""

    async def get(path="/feed", **query):
        answer = await reader(path, **query)
        assert answer.status == 200, answer
        assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
        return atom.read(answer.body)

    return get


async def publish(participant, **overrides):
    """Send a bulletin for everybody and give its id."""
    made = participant.message(**{"marking": CLEAR} | overrides)
    answer = await participant.submit(participant.sign(made))
    assert answer.status == 201, answer
    return str(made["id"])


def ids(read):
    return [str(atom.text(entry, "id")).removeprefix("urn:uuid:") for entry in atom.entries(read)]


async def test_anybody_gets_what_is_clear_the_newest_first(feed, kz, kg):
    assert ids(await feed()) == []
    first, second = await publish(kz), await publish(kg)
    assert ids(await feed()) == [second, first]


async def test_nothing_else_is_ever_in_it(hub, reader, kz, kg):
    others = MARKINGS.keys() - {CLEAR, "TLP:RED"}
    hidden = [await publish(kz, marking=marking, audience=["kg"]) for marking in others]
    assert (await kz.send(marking="TLP:RED", audience=["kg"])).code == "sealed-unsupported"
    shown = await publish(kg)
    for path in ("/feed", "/feed/member/kz", "/feed/theme/torture_prevention"):
        answer = await reader(path)
        assert ids(atom.read(answer.body)) == [shown] * (path != "/feed/member/kz")
        assert not [one for one in hidden if one.encode() in answer.body]
    for one in (*hidden, builders.message_id(7)):
        answer = await reader(f"/feed/{one}/evidence")
        assert (answer.status, answer.code) == (404, "not-found")
        assert answer.headers["Cache-Control"] == "no-store"


async def test_there_is_a_feed_for_each_institution_and_each_theme(feed, kz, kg):
    of_kz, of_kg = await publish(kz), await publish(kg, themes=["children"])
    assert ids(await feed("/feed/member/kz")) == [of_kz]
    assert ids(await feed("/feed/member/kg")) == [of_kg]
    assert ids(await feed("/feed/theme/children")) == [of_kg]
    assert ids(await feed("/feed/theme/climate")) == []


@pytest.mark.parametrize("path", ["/feed/member/nobody", "/feed/theme/weather", "/feed/1/evidence"])
async def test_what_is_not_there_is_not_found(reader, path):
    assert (await reader(path)).code == "not-found"


@pytest.mark.parametrize(
    "query", [{"lang": "x"}, {"lang": "en en"}, {"before": -1}, {"after": 3}, {"before": "now"}]
)
async def test_a_question_that_means_nothing_is_refused(reader, query):
    assert (await reader(**query)).code == "bad-request"


async def test_a_language_has_the_messages_with_a_text_in_it_and_shows_that(feed, kz, kg):
    both = {"kk": {"title": "Бару"}, "uz-Latn": {"title": "Tashrif"}}
    await publish(kz, texts=both)
    await publish(kg, texts={"uz-Latn": {"title": "Borish"}})
    for asked, shown in {
        None: ["Borish", "Бару"],
        "kk": ["Бару"],
        "KK": ["Бару"],
        "uz-Latn": ["Borish", "Tashrif"],
        "uz": ["Borish", "Tashrif"],
        "uz-Cyrl": ["Borish", "Tashrif"],
        "en": [],
        "kkk": [],
    }.items():
        read = await feed(**{} if asked is None else {"lang": asked})
        assert [atom.text(entry, "title") for entry in atom.entries(read)] == shown
    assert len(ids(await feed("/feed/member/kz", lang="uz"))) == 1
    assert len(ids(await feed("/feed/theme/torture_prevention", lang="kk"))) == 1
    assert ids(await feed("/feed/member/kg", lang="kk")) == []


async def test_pages_of_a_language_are_as_full_as_others_and_lead_through_it(feed, kz):
    in_russian = []
    for _ in range(22):
        await publish(kz)
        in_russian.append(await publish(kz, texts={"ru": {"title": "Посещение"}}))
    first = await feed(lang="ru")
    address = urlsplit(str(atom.link(first, "next")))
    second = await feed(f"{address.path}?{address.query}")
    assert [*ids(first), *ids(second)] == in_russian[::-1]
    assert len(ids(first)) == 20
    assert atom.link(second, "next") is None


async def test_pages_lead_from_one_to_the_next_through_everything(feed, hub, kz):
    sent = [await publish(kz) for _ in range(41)]
    read, seen = await feed("/feed/member/kz", lang="en"), []
    while True:
        seen.append(ids(read))
        following = atom.link(read, "next")
        if following is None:
            break
        address = urlsplit(following)
        assert following.startswith(hub.settings.url)
        read = await feed(f"{address.path}?{address.query}")
    assert [one for page in seen for one in page] == sent[::-1]
    assert [len(page) for page in seen] == [20, 20, 1]


async def test_what_may_not_be_shown_leaves_no_page_empty(feed, hub, kz):
    kept = await publish(kz)
    for one in [await publish(kz) for _ in range(20)]:
        await erase(hub, one)
    assert ids(await feed()) == [kept]


async def erase(hub, message_id):
    reason = "Request 12/26 of the person concerned"
    answer = await hub.operator.post(f"/v1/messages/{message_id}/erase", reason=reason)
    assert answer.status == 200, answer


async def test_what_is_erased_vanishes_with_its_evidence(feed, reader, hub, kz):
    gone = await publish(kz)
    assert ids(await feed()) == [gone]
    assert (await reader(f"/feed/{gone}/evidence")).status == 200
    await erase(hub, gone)
    assert ids(await feed()) == []
    assert ids(await feed("/feed/theme/torture_prevention")) == []
    again = await hub.connection.request("GET", f"/feed/{gone}/evidence")
    assert again.code == "not-found"


async def test_what_expires_vanishes_with_its_evidence(feed, reader, kz, clock):
    over = await publish(kz, expires=format_time(clock() + timedelta(minutes=5)))
    assert ids(await feed()) == [over]
    clock.forward(minutes=5)
    assert ids(await feed()) == []
    assert (await reader(f"/feed/{over}/evidence")).code == "not-found"


async def test_a_correction_says_what_it_replaces(feed, kz, kg):
    first = await publish(kz)
    await publish(kz, supersedes=first)
    await publish(kg, supersedes=first)
    of_another, correction, replaced = atom.entries(await feed())
    assert atom.link(correction, "predecessor-version") == atom.text(replaced, "id")
    assert atom.link(of_another, "predecessor-version") is None
    hidden = await publish(kz, marking="TLP:AMBER")
    await publish(kz, supersedes=hidden)
    assert atom.link(atom.entries(await feed())[0], "predecessor-version") is None


# --- Evidence ---


async def test_the_evidence_of_an_entry_holds_and_has_no_receipts(feed, hub, reader, kz):
    sent = await publish(kz)
    for code in ("kg", "tj"):
        receiver = hub.participant(code)
        receipt = receiver.receipt((await receiver.inbox())[-1])
        assert (await receiver.post("/v1/receipts", receipt)).status == 201
    [entry] = atom.entries(await feed())
    address = str(atom.link(entry, "alternate"))
    assert address == f"{hub.settings.url}/feed/{sent}/evidence"
    answer = await reader(urlsplit(address).path)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="evidence-{sent}.zip"'
    trusted = policies.parse(f"log {hub.vkey}\nquorum none\n".encode())
    report = check(answer.body, cover(), trusted)
    assert report.holds, report.findings
    evidence = archive.read(answer.body)
    assert evidence.envelope is not None
    kinds = {entries.decode(unb64url(one.entry)).type for one in evidence.entries}
    assert kinds == {entries.MESSAGE_ACCEPTED, entries.MEMBER_INVITED, entries.MEMBER_JOINED}


async def test_reading_it_writes_nothing_into_the_log(feed, reader, hub, kz):
    sent = await publish(kz)
    size = await hub.size()
    await feed()
    assert (await reader(f"/feed/{sent}/evidence")).status == 200
    assert await hub.size() == size


# --- Caches ---


async def test_a_reader_that_has_the_page_gets_it_again_only_when_it_has_changed(reader, kz):
    await publish(kz)
    first = await reader()
    assert first.headers["Cache-Control"] == "public, max-age=60"
    tag = first.headers["ETag"]
    same = await reader(headers={"If-None-Match": f'"other", W/{tag}'})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    await publish(kz)
    changed = await reader(headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag


async def test_an_erasure_changes_the_page_for_those_who_have_it(reader, hub, kz):
    await publish(kz)
    gone = await publish(kz)
    tag = (await reader()).headers["ETag"]
    await erase(hub, gone)
    assert (await reader(headers={"If-None-Match": tag})).status == 200


async def test_within_ten_seconds_a_page_is_made_once(hub, kz, clock, monkeypatch):
    searched = []
    search = hub.service.queries.search

    async def counted(wanted):
        searched.append(wanted)
        return await search(wanted)

    monkeypatch.setattr(hub.service.queries, "search", counted)
    for _ in range(3):
        assert (await hub.connection.request("GET", "/feed")).status == 200
    assert len(searched) == 1
    clock.forward(seconds=10)
    await hub.connection.request("GET", "/feed")
    assert len(searched) == 2

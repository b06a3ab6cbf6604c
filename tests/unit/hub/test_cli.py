"""The command line as its users meet it, against a small server that speaks docs/protocol.md."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from hub import settings as configuration
from hub.cli import main as program
from schemas import acceptance, jsontext, proof, receipt, statement
from schemas import entry as entries
from schemas.entry import AcceptedPrivate, Entry, Recipient
from schemas.refusal import REFUSALS, TRY_AGAIN
from tests.unit.hub.cli.static_log import TIME, publish, started

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
DIGITS = "123456789012345678901234567890"
KID = "-" + "k" * 42
SALT = bytes(range(32))

KZ = {
    "code": "kz",
    "role": "member",
    "state": "active",
    "country": "KZ",
    "kid": KID,
    "names": {"kk": "Қазақстан Уәкілі", "en": "Ombudsman\x1b[31m of [bold]Kazakhstan\u202e"},
}
TM = {
    "code": "tm",
    "role": "member",
    "state": "invited",
    "country": None,
    "kid": None,
    "names": {"tk": "Adalatçy"},
}
KEYS = {
    "keys": [{"kid": KID, "member": "kz", "x": "x", "since": 3, "until": None, "expires": None}]
}
STATUS = {
    "version": "9.8.7",
    "participants": {"active": 1, "invited": 1},
    "waiting_deliveries": {"tm": 2},
    "waiting_jobs": 0,
    "log_size": 42,
    "store_failing": None,
    "signing_stopped": None,
    "quorum_wanted": True,
    "quorum_size": 40,
    "witnesses": [{"code": "kz", "size": 41, "time": "2026-07-01T09:00:00.000Z"}],
    "free_disk_bytes": 10**10,
    "certificate_days": {},
}


def refusal(code: str, detail: str, path: str | None = None) -> tuple[int, object]:
    row = REFUSALS[code]
    problem = {
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "code": code,
        "retryable": row.retryable,
        "path": path,
    }
    return row.status, problem


class CannedHub:
    """Answers as it is told, serves a log, and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.config = configuration.initialise(folder, "hub.example")
        settings = configuration.load(self.config, {})
        self.socket = settings.socket
        self.vkey = configuration.log_vkey(settings)
        self.private = configuration.log_key(settings)
        self.url = ""
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[tuple[str, object]] = []
        self.tokens: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.write([started(number) for number in range(300)])

    def write(self, raws: list[bytes]) -> None:
        self.files = publish(raws, self.vkey, self.private)

    def says(self, request: str, answer: object, status: int = 200) -> None:
        self.answers[request] = (status, answer)

    def refuses(self, request: str, code: str, detail: str, path: str | None = None) -> None:
        self.answers[request] = refusal(code, detail, path)

    async def handle(self, request: web.Request) -> web.Response:
        asked = f"{request.method} {request.path_qs}"
        self.asked.append((asked, await request.json() if request.can_read_body else None))
        if "Authorization" in request.headers:
            self.tokens.add(request.headers["Authorization"])
        file = self.files.get(request.path.removeprefix("/log/"))
        if file is not None:
            return web.Response(body=file)
        status, answer = self.answers.get(asked, refusal("not-found", f"No {asked}."))
        if isinstance(answer, str):
            return web.Response(text=answer, status=status, headers={"Location": "/elsewhere"})
        headers = {"Retry-After": "10"} if status == 503 else {}
        return web.json_response(answer, status=status, headers=headers)

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, self.socket).start()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[-1][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()


@contextlib.contextmanager
def served(hub: CannedHub) -> Iterator[CannedHub]:
    """In a thread of its own, because every command runs an event loop itself."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[hub.serve(ready, stop)])
    thread.start()
    assert ready.wait(10)
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[CannedHub]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NHRI_CONFIG", raising=False)
    with served(CannedHub(tmp_path)) as canned:
        yield canned


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NHRI_CONFIG", raising=False)
    return tmp_path


def run(*words: str, typed: str | None = None) -> Result:
    result = CliRunner().invoke(program.main, list(words), input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def done_json(*words: str):
    return json.loads(done(*words, "--json"))


# --- Which hub, and what if it is not there ---


def test_without_settings_or_an_address_the_command_says_what_to_give(nowhere):
    result = run("member", "list")
    assert result.exit_code == 2
    assert "--config FILE" in result.stderr
    assert "--hub" in result.stderr


def test_wrong_settings_are_named(nowhere):
    (nowhere / "hub.toml").write_text("name = 3\ncolour = 'red'\n")
    result = run("member", "list")
    assert result.exit_code == 1
    assert "hub.toml are not right" in result.stderr


def test_a_hub_that_does_not_run_is_said_to_be_unreachable(nowhere):
    configuration.initialise(nowhere, "hub.example")
    result = run("member", "list")
    assert result.exit_code == 3
    assert "is `nhri-hub serve` running?" in result.stderr
    assert "No such file" in result.stderr


@pytest.mark.parametrize("status", [200, 302, 502])
def test_another_server_is_not_taken_for_a_hub_and_no_redirect_is_followed(hub, status):
    hub.says("GET /v1/members", "<html>Welcome</html>", status)
    result = run("member", "list")
    assert result.exit_code == 3
    assert "is not a hub" in result.stderr
    assert [asked for asked, _ in hub.asked] == ["GET /v1/members"]


def test_an_answer_of_another_form_is_not_understood(hub):
    hub.says("GET /v1/members", {"members": [{"code": 7}]})
    result = run("member", "list")
    assert result.exit_code == 3
    assert "not understood" in result.stderr


def test_a_refusal_is_told_in_sentences_with_the_place_it_is_about(hub):
    hub.refuses("POST /v1/groups/x", "schema", "The code is \x1b[2Jtoo short.", "$.code")
    result = run("member", "group", "x", "kz")
    assert result.exit_code == 4
    assert result.stderr == (
        "Error: The message does not follow its schema. The code is [2Jtoo short. "
        "It is about $.code.\n"
    )


def test_a_refusal_that_will_pass_says_when_to_try_again(hub):
    hub.refuses("GET /v1/members", "storage", "The disk is full.")
    result = run("member", "list")
    assert result.exit_code == 4
    assert "Nothing was written; try again in 10 seconds." in result.stderr


def test_a_refusal_that_says_itself_when_to_try_again_says_it_once(hub):
    hub.refuses("GET /v1/members", "storage", f"Nothing was stored; {TRY_AGAIN}.")
    stderr = run("member", "list").stderr
    assert stderr.count("again") == stderr.count("in 10 seconds") == 1


def test_a_refusal_reaches_a_program_as_the_whole_problem_document(hub):
    hub.refuses("GET /v1/members", "forbidden", "No.")
    result = run("member", "list", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["code"] == "forbidden"


def test_the_options_may_stand_before_or_after_the_command(hub, tmp_path, monkeypatch):
    hub.says("GET /v1/members", {"members": []})
    monkeypatch.chdir("/")
    config = str(hub.config)
    assert done("--config", config, "--json", "member", "list") == done(
        "member", "list", "--json", "--config", config
    )
    monkeypatch.setenv("NHRI_CONFIG", config)
    assert done_json("member", "list") == {"members": []}


def test_a_hub_elsewhere_is_shown_the_token_from_the_file(hub, tmp_path):
    hub.says("GET /v1/members", {"members": []})
    (tmp_path / "token").write_text("secret-token\n")
    done("member", "list", "--hub", f"{hub.url}/", "--token-file", "token")
    assert hub.tokens == {"Bearer secret-token"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--hub", "http://127.0.0.1"], "needs a --token-file"),
        (["--token-file", "token"], "goes with --hub"),
        (["--hub", "http://hub.example", "--token-file", "token"], "use https"),
        (["--hub", "hub.example", "--token-file", "token"], "an address such as"),
        (["--hub", "http://127.0.0.1", "--token-file", "absent"], "cannot be read"),
        (["--hub", "http://127.0.0.1", "--token-file", "empty"], "does not hold a token"),
    ],
)
def test_an_address_or_token_that_cannot_be_right_is_a_usage_error(nowhere, words, sentence):
    (nowhere / "token").write_text("secret")
    (nowhere / "empty").write_text("\n")
    result = run("member", "list", *words)
    assert result.exit_code == 2
    assert sentence in result.stderr


# --- Starting ---


def test_init_makes_settings_and_a_key_that_only_the_owner_reads_and_says_what_comes_next(nowhere):
    said = done("init", "new", "--name", "hub.example", "--port", "9000")
    settings = configuration.load(nowhere / "new/hub.toml", {})
    assert (settings.name, settings.http.port) == ("hub.example", 9000)
    assert settings.log_key_path.stat().st_mode & 0o777 == 0o600
    assert "nhri-hub serve --config new/hub.toml" in said
    assert run("init", "new", "--name", "hub.example").exit_code == 1


def test_serve_ends_with_one_sentence_when_the_hub_cannot_start(nowhere):
    result = run("serve", "--config", "absent.toml")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: There is no settings file absent.toml; make one: nhri-hub init.\n"
    )


# --- Members, keys and tokens ---


def test_members_are_listed_with_their_names_as_plain_text(hub):
    hub.says("GET /v1/members", {"members": [KZ, TM], "groups": {"child-rights": ["kz"]}})
    head, kz, tm, group = done("member", "list").splitlines()
    assert head.split() == ["code", "role", "state", "country", "name"]
    assert kz.split() == ["kz", "member", "active", "KZ", "Ombudsman[31m", "of", "[bold]Kazakhstan"]
    assert tm.split() == ["tm", "member", "invited", "Adalatçy"]
    assert group == "group child-rights: kz"


def test_json_keeps_everything_and_escapes_what_a_terminal_would_obey(hub):
    hub.says("GET /v1/members", {"members": [KZ], "groups": {}, "more": 1})
    printed = done("member", "list", "--json")
    assert json.loads(printed) == {"members": [KZ], "groups": {}, "more": 1}
    assert "Қазақстан" in printed
    assert not {"\x1b", "\u202e"} & set(printed)


def test_a_member_is_shown_with_all_names_groups_and_keys(hub):
    hub.says("GET /v1/members", {"members": [KZ, TM], "groups": {"child-rights": ["kz"]}})
    hub.says("GET /v1/keys?member=kz", KEYS)
    said = done("member", "show", "kz")
    for expected in ("kz: member, active", "kk: Қазақстан Уәкілі", "groups: child-rights", KID):
        assert expected in said
    assert done_json("member", "show", "kz")["keys"] == KEYS["keys"]


def test_a_member_that_is_not_there_is_not_so(hub):
    hub.says("GET /v1/members", {"members": [KZ], "groups": {}})
    result = run("member", "show", "xx")
    assert (result.exit_code, result.stderr) == (1, "Error: There is no participant xx.\n")


def test_an_invitation_takes_a_profile_and_what_is_given_goes_before_it(hub, tmp_path):
    hub.says("POST /v1/members", {"v": 1, "invitation": "i" * 22}, 201)
    Path("kz.toml").write_text(
        'code = "kz"\nrole = "member"\ncountry = "KZ"\nwebsite = "https://kz.example"\n'
        '[names]\nen = "Ombudsman"\nkk = "Уәкіл"\n'
    )
    words = ["--profile", "kz.toml", "--name", 'en=Commissioner = "Ombudsman"', "-o", "kz.json"]
    result = run("member", "invite", "kz", *words)
    assert (result.exit_code, result.stdout) == (0, "The bundle is in kz.json.\n")
    assert "approve" in result.stderr
    assert hub.asked == [
        (
            "POST /v1/members",
            {
                "code": "kz",
                "role": "member",
                "country": "KZ",
                "names": {"en": 'Commissioner = "Ombudsman"', "kk": "Уәкіл"},
            },
        )
    ]
    assert json.loads(Path("kz.json").read_text()) == {"v": 1, "invitation": "i" * 22}
    assert Path("kz.json").stat().st_mode & 0o777 == 0o600


def test_a_bundle_is_printed_where_no_file_is_named(hub):
    hub.says("POST /v1/members", {"v": 1}, 201)
    printed = done("member", "invite", "osh", "--role", "observer", "--name", "en=Osh")
    assert json.loads(printed) == {"v": 1}


@pytest.mark.parametrize(
    "words",
    [
        ["--role", "member"],
        ["--name", "en=Ombudsman"],
        ["--role", "king", "--name", "en=Ombudsman"],
        ["--role", "member", "--name", "Ombudsman"],
        ["--role", "member", "--name", "en=Ombudsman", "-o", "there"],
        ["--role", "member", "--name", "en=Ombudsman", "-o", "no/such/folder"],
        ["--profile", "absent.toml"],
        ["--profile", "there"],
        ["--profile", "of-kg.toml"],
    ],
)
def test_an_invitation_that_cannot_be_right_never_reaches_the_hub(hub, words):
    Path("there").write_text("not toml")
    Path("of-kg.toml").write_text('code = "kg"\nrole = "member"\nnames = {en = "Ombudsman"}\n')
    assert run("member", "invite", "kz", *words).exit_code == 2
    assert hub.asked == []
    assert Path("there").read_text() == "not toml"


def test_a_refused_invitation_leaves_no_file(hub):
    hub.refuses("POST /v1/members", "conflict", "It is there already.")
    words = ["--role", "member", "--name", "en=Ombudsman", "-o", "kz.json"]
    assert run("member", "invite", "kz", *words).exit_code == 4
    assert not Path("kz.json").exists()


def test_holding_a_member_makes_a_new_bundle(hub):
    hub.says("POST /v1/members/tm/hold", {"v": 1}, 201)
    assert done("member", "hold", "tm", "--reason", "stolen", "-o", "tm.json")
    assert hub.asked == [("POST /v1/members/tm/hold", {"reason": "stolen"})]
    assert json.loads(Path("tm.json").read_text()) == {"v": 1}


def waits(hub: CannedHub) -> None:
    hub.says(
        "GET /v1/members/tm/join",
        {"code": "tm", "fingerprint": DIGITS, "kid": KID, "received": TIME},
    )
    hub.says("POST /v1/members/tm/approve", {"index": 57})


def test_approving_shows_the_fingerprint_in_groups_and_wants_the_last_one_typed(hub):
    waits(hub)
    result = run("member", "approve", "tm", typed="67890\n")
    assert (result.exit_code, result.stdout) == (0, "tm is in (log entry 57).\n")
    assert statement.spoken(DIGITS) in result.stderr
    assert hub.asked[-1] == ("POST /v1/members/tm/approve", {"fingerprint": DIGITS})


@pytest.mark.parametrize("typed", ["67891\n", "y\n", DIGITS + "\n", ""])
def test_nothing_is_approved_when_something_else_is_typed(hub, typed):
    waits(hub)
    assert run("member", "approve", "tm", typed=typed).exit_code == 1
    assert [asked for asked, _ in hub.asked] == ["GET /v1/members/tm/join"]


def test_a_fingerprint_that_was_read_out_may_be_given_with_its_spaces(hub):
    waits(hub)
    done("member", "approve", "tm", "--fingerprint", statement.spoken(DIGITS))
    assert hub.asked == [("POST /v1/members/tm/approve", {"fingerprint": DIGITS})]


@pytest.mark.parametrize("digits", ["", "12345", DIGITS + "1", DIGITS[:-1] + "x"])
def test_a_fingerprint_has_thirty_digits(hub, digits):
    assert run("member", "approve", "tm", "--fingerprint", digits).exit_code == 2
    assert hub.asked == []


@pytest.mark.parametrize(
    ("words", "path", "body", "said"),
    [
        (["suspend", "tm", "--reason", "r"], "members/tm/suspend", {"reason": "r"}, "suspended"),
        (["resume", "tm", "--reason", "r"], "members/tm/resume", {"reason": "r"}, "again"),
        (["group", "net", "kz", "tm"], "groups/net", {"members": ["kz", "tm"]}, "net is kz, tm"),
        (["suspend", "t/../m", "--reason", "r"], "members/t%2F..%2Fm/suspend", {"reason": "r"}, ""),
    ],
)
def test_a_change_is_asked_for_and_named_with_its_entry(hub, words, path, body, said):
    hub.says(f"POST /v1/{path}", {"index": 9})
    printed = done("member", *words)
    assert said in printed
    assert "(log entry 9)" in printed
    assert hub.asked == [(f"POST /v1/{path}", body)]
    assert done_json("member", *words) == {"index": 9}


@pytest.mark.parametrize("action", ["suspend", "resume", "hold"])
def test_a_change_of_state_needs_a_reason(hub, action):
    assert run("member", action, "tm").exit_code == 2


def test_keys_are_listed_and_one_with_a_dash_in_front_can_be_revoked(hub):
    hub.says("GET /v1/keys", KEYS)
    hub.says(f"POST /v1/keys/{KID}/revoke", {"index": 9})
    assert KID in done("key", "list")
    assert done_json("key", "list") == KEYS
    assert done("key", "revoke", KID, "--reason", "lost") == f"The key {KID} is revoked.\n"
    assert hub.asked[-1] == (f"POST /v1/keys/{KID}/revoke", {"reason": "lost"})


def test_a_token_is_shown_once_or_goes_into_a_private_file(hub):
    hub.says("POST /v1/tokens", {"token": "t" * 43}, 201)
    words = ["token", "create", "aigul", "--scope", "auditor", "--scope", "log"]
    assert done(*words) == "t" * 43 + "\n"
    assert hub.asked == [("POST /v1/tokens", {"account": "aigul", "scopes": ["auditor", "log"]})]
    assert "t" * 43 not in done(*words, "-o", "token")
    assert Path("token").read_text() == "t" * 43 + "\n"
    assert Path("token").stat().st_mode & 0o777 == 0o600


def test_tokens_are_listed_and_revoked_by_account(hub):
    hub.says(
        "GET /v1/tokens",
        {
            "tokens": [
                {"account": "aigul", "scopes": ["auditor", "log"], "created": TIME, "revoked": None}
            ]
        },
    )
    hub.says("POST /v1/tokens/aigul/revoke", {"index": 4})
    assert "aigul    auditor, log" in done("token", "list")
    assert done("token", "revoke", "aigul") == "The token of aigul is revoked.\n"


# --- The audit ---


def accepted() -> tuple[Entry, bytes]:
    private = jsontext.encode(
        AcceptedPrivate(
            "e" * 43,
            "activity_bulletin.v1",
            "TLP:GREEN",
            None,
            {"tm": Recipient(7, "group:region"), "uz": Recipient(2, "named")},
            {"kz": "sender"},
        )
    )
    commitment = entries.commitment(SALT, private)
    return Entry(1, "message.accepted", TIME, "kz", ID, {}, commitment), private


def received(hub: CannedHub) -> tuple[Entry, bytes]:
    """A receipt; the hub has checked who signed it, so that here anybody may."""
    item: receipt.Item = (ID, "h" * 43, 7, "refused", "No such kind")
    private = receipt.sign(receipt.Receipt("tm", TIME, (item,)), hub.private)
    commitment = entries.commitment(SALT, private)
    return Entry(1, "receipts.recorded", TIME, "tm", None, {}, commitment), private


def event(index: int, entry: Entry, private: bytes | None) -> object:
    shown = None if private is None else json.loads(private)
    return {"index": index, "entry": json.loads(entries.encode(entry)), "private": shown}


def timeline(hub: CannedHub) -> dict[str, object]:
    entry, private = accepted()
    raw = entries.encode(entry)
    hub.write([raw])
    text = proof.encode(proof.Proof(0, (), hub.files["checkpoint"]))
    return {
        "id": ID,
        "acceptance": json.loads(jsontext.encode(acceptance.pack(raw, private, SALT, text))),
        "deliveries": [
            {"recipient": "tm", "state": "refused"},
            {"recipient": "uz", "state": "waiting"},
        ],
        "events": [event(0, entry, private), event(5, *received(hub))],
    }


def test_a_search_sends_every_filter_and_a_day_until_its_end(hub):
    query = (
        "type=message.accepted&actor=kz&subject=s&member=tm&kind=k&marking=TLP:RED&thread=t"
        "&since=2026-01-31T00:00:00.000Z&until=2026-02-01T00:00:00.000Z&after=5&limit=20"
    )
    hub.says(f"GET /v1/audit/events?{query}", {"events": [], "next": None})
    words = [
        "--type",
        "message.accepted",
        "--actor",
        "kz",
        "--subject",
        "s",
        "--member",
        "tm",
        "--kind",
        "k",
        "--marking",
        "TLP:RED",
        "--thread",
        "t",
        "--since",
        "2026-01-31",
        "--until",
        "2026-01-31",
        "--after",
        "5",
        "--limit",
        "20",
    ]
    assert done_json("audit", "search", *words) == {"events": [], "next": None}


@pytest.mark.parametrize("time", ["yesterday", "2026-02-30", "2026-01-31T00:00:00Z"])
def test_a_time_that_cannot_be_read_is_a_usage_error(hub, time):
    assert run("audit", "search", "--since", time).exit_code == 2


def test_a_search_tells_in_words_what_an_entry_says(hub):
    refused = Entry(1, "message.refused", TIME, "kz", ID, {"code": "schema"}, "p" * 43)
    detail = json.dumps({"detail": "A text\nis \x1b]0;missing.", "path": "$.texts"}).encode()
    events = [event(1, *accepted()), event(2, *received(hub)), event(3, refused, detail)]
    hub.says("GET /v1/audit/events?limit=100", {"events": events, "next": None})
    _, first, second, third = map(str.rstrip, done("audit", "search").splitlines())
    assert first.endswith("activity_bulletin.v1, TLP:GREEN, to tm uz, without kz")
    assert second.split()[-2:] == ["1", "refused"]
    assert third.endswith("code: schema, detail: A text is ]0;missing., path: $.texts")


def test_a_private_part_that_was_erased_or_is_of_another_form_is_no_hindrance(hub):
    entry, _ = accepted()
    strange = {"index": 2, "entry": json.loads(entries.encode(entry)), "private": {"a": 1}}
    events = [event(1, entry, None), strange]
    hub.says("GET /v1/audit/events?limit=100", {"events": events, "next": None})
    assert done("audit", "search").rstrip().endswith("a: 1")


def test_pages_are_followed_up_to_the_limit(hub):
    one = event(1, *accepted())
    hub.says("GET /v1/audit/events?limit=500", {"events": [one] * 500, "next": 500})
    hub.says("GET /v1/audit/events?after=500&limit=100", {"events": [one] * 100, "next": 600})
    result = run("audit", "search", "--limit", "600", "--json")
    assert (len(json.loads(result.stdout)["events"]), result.exit_code) == (600, 0)
    assert "--after 600" in run("audit", "search", "--limit", "600").stderr


def test_a_page_with_nothing_on_it_is_not_the_end(hub):
    one = event(1, *accepted())
    hub.says("GET /v1/audit/events?text=a&limit=100", {"events": [], "next": 70})
    hub.says("GET /v1/audit/events?text=a&after=70&limit=100", {"events": [one], "next": None})
    found = done_json("audit", "search", "--text", "a")
    assert found == {"events": [json.loads(json.dumps(one))], "next": None}


def test_the_newest_come_first_where_they_are_asked_for(hub):
    one = event(1, *accepted())
    hub.says(f"GET /v1/audit/events?before={2**53 - 1}&limit=1", {"events": [one], "next": 1})
    assert "--before 1" in run("audit", "search", "--newest", "--limit", "1").stderr
    hub.says("GET /v1/audit/events?before=7&limit=1", {"events": [one], "next": None})
    assert run("audit", "search", "--before", "7", "--limit", "1").stderr == ""


def test_counts_are_a_table_and_say_what_they_do_not_cover(hub):
    row = {"period": "2026-07", "value": "children", "count": 12}
    answer = {"counts": [row], "indexed": 90, "size": 100}
    hub.says("GET /v1/audit/counts?of=theme&sender=kz&by=month", answer)
    words = ("audit", "counts", "--of", "theme", "--sender", "kz")
    assert done_json(*words) == answer
    result = run(*words)
    assert result.stdout.split() == ["period", "theme", "count", "2026-07", "children", "12"]
    assert "the first 90 entries of 100" in result.stderr


def test_a_message_is_told_from_its_acceptance_to_its_last_receipt(hub):
    hub.says(f"GET /v1/audit/messages/{ID}", timeline(hub))
    said = done("audit", "show", ID)
    lines = [line.split() for line in said.splitlines()]
    assert f"accepted from kz at {TIME}." in said
    assert ["tm", "7", "group:region", "refused", "No", "such", "kind"] in lines
    assert ["uz", "2", "named", "waiting", "no", "receipt"] in lines
    assert ["kz", "sender", "left", "out"] in lines
    assert "refused, position 7: No such kind" in said
    assert "The acceptance holds: it is entry 0 of 1 in hub.example/log." in said
    assert done_json("audit", "show", ID) == timeline(hub)


def test_an_acceptance_that_does_not_hold_ends_with_one(hub):
    story = timeline(hub)
    entry, private = accepted()
    text = proof.encode(proof.Proof(0, (), hub.files["checkpoint"]))
    forged = acceptance.pack(entries.encode(entry), private + b" ", SALT, text)
    hub.says(
        f"GET /v1/audit/messages/{ID}", {**story, "acceptance": json.loads(jsontext.encode(forged))}
    )
    result = run("audit", "show", ID)
    assert result.exit_code == 1
    assert "The acceptance does not hold" in result.stderr


def test_the_acceptance_of_another_message_is_not_taken_for_this_ones(hub):
    other = ID.replace("0189", "0190")
    hub.says(f"GET /v1/audit/messages/{other}", timeline(hub))
    result = run("audit", "show", other)
    assert (result.exit_code, "of something else" in result.stderr) == (1, True)


def test_a_refused_message_has_a_story_too(hub):
    refused = Entry(1, "message.refused", TIME, "kz", ID, {"code": "schema"}, None)
    hub.says(
        f"GET /v1/audit/messages/{ID}",
        {"acceptance": None, "deliveries": [], "events": [event(3, refused, None)]},
    )
    assert "code: schema" in done("audit", "show", ID)


def test_why_is_one_sentence(hub):
    hub.says(
        f"GET /v1/audit/messages/{ID}/why?member=tm",
        {"received": False, "sentence": "tm did not receive it:\nit was suspended."},
    )
    assert done("audit", "why", ID, "--member", "tm") == (
        "tm did not receive it: it was suspended.\n"
    )


def test_the_key_is_read_from_the_settings_without_a_running_hub(nowhere):
    settings = configuration.load(configuration.initialise(nowhere, "hub.example"), {})
    vkey = str(configuration.log_vkey(settings))
    assert done("audit", "key") == f"{vkey}\n"
    assert done_json("audit", "key") == {"vkey": vkey}
    assert run("audit", "key", "--hub", "https://hub.example").exit_code == 2


def check_of_hub(hub: CannedHub, **differs: object) -> None:
    answer = {"size": 300, "root": "", "entries": 300, "ok": True, "problems": []}
    hub.says("GET /v1/audit/verify", {**answer, **differs})


def test_a_log_that_holds_is_said_to_hold(hub):
    check_of_hub(hub)
    assert "has 300 entries; every one was hashed again here" in done("audit", "verify")
    answer = done_json("audit", "verify")
    assert (answer["ok"], answer["verified"]["size"], answer["hub"]["size"]) == (True, 300, 300)


def test_an_auditor_elsewhere_has_to_bring_the_key(hub, monkeypatch):
    check_of_hub(hub)
    Path("token").write_text("secret")
    elsewhere = ["audit", "verify", "--hub", hub.url, "--token-file", str(Path("token").resolve())]
    monkeypatch.chdir("/")
    result = run(*elsewhere)
    assert (result.exit_code, "--vkey" in result.stderr) == (2, True)
    assert run(*elsewhere, "--vkey", "nonsense").exit_code == 2
    assert done(*elsewhere, "--vkey", str(hub.vkey))


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/entries/001.p/44"])
def test_a_log_that_does_not_hold_ends_with_one_and_the_reason(hub, path):
    check_of_hub(hub)
    hub.files[path] = hub.files[path][:-5] + b"wrong"
    result = run("audit", "verify", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["verified"]) == (False, None)
    assert path.replace("checkpoint", "The checkpoint") in result.stderr


def test_a_tile_that_the_hub_does_not_serve_is_a_reason_too(hub):
    check_of_hub(hub)
    del hub.files["tile/0/000"]
    result = run("audit", "verify")
    assert (result.exit_code, "tile/0/000 is missing" in result.stderr) == (1, True)


def test_the_hubs_own_doubts_count_as_well(hub):
    check_of_hub(hub, ok=False, problems=["Entry 7 is not the one that was recorded."])
    result = run("audit", "verify")
    assert result.exit_code == 1
    assert "Entry 7 is not the one" in result.stderr
    check_of_hub(hub, ok=False)
    assert "own check failed" in run("audit", "verify").stderr


def test_a_mirror_is_written_and_a_rewritten_log_refused(hub):
    done("audit", "mirror", "copy")
    assert Path("copy/checkpoint").read_bytes() == hub.files["checkpoint"]
    assert Path("copy/tile/entries/000").read_bytes() == hub.files["tile/entries/000"]
    assert done_json("audit", "mirror", "copy")["size"] == 300
    hub.write([started(number) for number in range(1, 400)])
    result = run("audit", "mirror", "copy")
    assert result.exit_code == 1
    assert "checkpoint.rejected is the evidence" in result.stderr


def test_a_mirror_that_cannot_be_written_says_where(hub):
    Path("copy").mkdir()
    Path("copy/tile").write_text("in the way")
    result = run("audit", "mirror", "copy")
    assert result.exit_code == 1
    assert "copy/tile" in result.stderr


# --- The doctor ---


def healthy(hub: CannedHub, **differs: object) -> None:
    hub.says("GET /v1/status", {**STATUS, **differs})
    hub.says("GET /v1/members", {"members": [KZ, TM], "groups": {}})
    waits(hub)


def test_a_healthy_hub_is_said_to_be_and_what_waits_is_listed(hub):
    healthy(hub)
    said = done("doctor")
    for expected in (
        "version 9.8.7",
        "300 entries, signed by its key",
        "active 1, invited 1",
        "tm 2",
        "quorum at 40 of 42 entries; behind by: kz 1",
        "nhri-hub member approve tm",
    ):
        assert expected in said
    assert "PROBLEM" not in said


@pytest.mark.parametrize(
    ("differs", "name"),
    [
        ({"free_disk_bytes": 1000}, "disk"),
        ({"store_failing": "disk full"}, "database"),
        ({"certificate_days": {"hub:door": 14, "hub:broker": 90}}, "certificates"),
        ({"signing_stopped": "an older copy"}, "signing"),
    ],
)
def test_a_problem_is_named_and_ends_with_one(hub, differs, name):
    healthy(hub, **differs)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert [f["name"] for f in answer["findings"] if f["ok"] is False] == [name]
    assert name in result.stderr


def test_the_days_of_the_hubs_own_certificates_are_said(hub):
    healthy(hub, certificate_days={"hub:door": 15})
    assert "days left: hub:door 15" in done("doctor")


def test_a_checkpoint_by_another_key_is_a_problem(hub):
    healthy(hub)
    del hub.files["checkpoint"]
    result = run("doctor")
    assert (result.exit_code, "log" in result.stderr) == (1, True)


def test_a_hub_that_is_away_is_what_the_doctor_finds(nowhere):
    configuration.initialise(nowhere, "hub.example")
    result = run("doctor")
    assert result.exit_code == 1
    assert "is `nhri-hub serve` running?" in result.stdout


def test_an_auditor_elsewhere_sees_the_hubs_health_too(hub, monkeypatch):
    healthy(hub)
    hub.refuses("GET /v1/members/tm/join", "forbidden", "Not for auditors.")
    Path("token").write_text("secret")
    token = str(Path("token").resolve())
    monkeypatch.chdir("/")
    said = done("doctor", "--hub", hub.url, "--token-file", token)
    assert "to approve       nobody" in said
    assert "its key is on the hub's machine" in said


# --- Help ---


def test_the_demo_is_imported_when_it_is_asked_for_and_gets_its_own_options(monkeypatch):
    @click.command()
    @click.option("--once", is_flag=True)
    def demo(once: bool) -> None:
        click.echo(f"once: {once}")

    module = types.ModuleType("hub.cli.demo")
    monkeypatch.setattr(module, "demo", demo, raising=False)
    monkeypatch.setitem(sys.modules, "hub.cli.demo", module)
    assert done("demo", "--once") == "once: True\n"
    assert "--once" in done("demo", "--help")
    command = program.main.commands["demo"]
    assert "--once" in command.get_params(click.Context(command))[0].opts


def commands(command: click.Command, *above: str) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, *above, name)
    else:
        yield above


OWN = [words for words in commands(program.main) if words != ("demo",)]


@pytest.mark.parametrize("words", OWN, ids=" ".join)
def test_every_command_has_a_help_with_an_example_of_itself(words):
    said = done(*words, "--help")
    assert "Examples:" in said
    assert f"  nhri-hub {' '.join(words)}" in said


@pytest.mark.parametrize("words", sorted({*OWN} - {("serve",), ("init",)}), ids=" ".join)
def test_every_command_that_answers_can_answer_in_json(words):
    assert "--json" in done(*words, "--help")


def test_help_does_not_wait_for_slow_libraries():
    code = (
        "import sys; from hub.cli.main import main\n"
        "main(['audit', 'verify', '--help'], standalone_mode=False)\n"
        "sys.exit(bool({'aiohttp', 'sqlalchemy', 'uvloop'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

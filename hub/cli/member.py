"""``nhri-hub member``: who takes part, and under which keys."""

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.key import Keys, print_keys
from hub.cli.outcome import NotSo
from hub.cli.output import new_private_file, note, print_json, print_table, say
from schemas import jsontext
from schemas.jsontext import Json
from schemas.statement import FINGERPRINT_DIGITS, spoken

if TYPE_CHECKING:
    from hub.cli.client import Hub

ROLES = ("member", "partner", "observer")


class Member(msgspec.Struct, frozen=True):
    """One participant, as ``GET /v1/members`` tells."""

    code: str
    role: str
    state: str
    names: dict[str, str]
    country: str | None = None
    kid: str | None = None

    @property
    def name(self) -> str:
        """The English name, or any."""
        return self.names.get("en") or next(iter(self.names.values()), "")


class Members(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/members``."""

    members: list[Member]
    groups: dict[str, list[str]] = {}


class JoinRequest(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/members/{code}/join``."""

    code: str
    fingerprint: str
    received: str = ""


class Done(msgspec.Struct, frozen=True):
    """The answer to a change: the log entry that it is recorded in."""

    index: int


class Profile(msgspec.Struct, frozen=True):
    """What an invitation needs of an institution's profile; the rest of the file is not read."""

    code: str | None = None
    role: Literal["member", "partner", "observer"] | None = None
    names: dict[str, str] = {}
    country: str | None = None
    contact: str | None = None


@click.group()
def member() -> None:
    """Invite, approve, suspend and list participants."""


def _names(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if not all(tag and name for tag, _, name in pairs):
        raise click.BadParameter('write it as en="Name of the institution".')
    return {tag: name for tag, _, name in pairs}


def _profile(_: click.Context, __: click.Parameter, path: Path | None) -> Profile:
    try:
        values = tomllib.loads(path.read_text("utf-8")) if path else {}
        return msgspec.convert(values, Profile)
    except (OSError, ValueError) as error:  # TOML's and msgspec's errors are ValueErrors
        raise click.BadParameter(f"{path}: {error}.") from None


def _new_bundle(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write the bundle there instead of printing it; the file must not exist.",
    )(command)


@member.command(
    epilog=examples(
        "nhri-hub member invite kz --profile connectors/profiles/kz.toml -o kz.json",
        'nhri-hub member invite osh --role observer --name en="Osh Centre" -o osh.json',
    )
)
@click.argument("code")
@click.option("--role", type=click.Choice(ROLES), help="What it may send and receive.")
@click.option(
    "--name",
    "names",
    multiple=True,
    callback=_names,
    metavar='TAG="NAME"',
    help="Its official name in one language; repeat it for others.",
)
@click.option("--country", metavar="XX", help="ISO 3166-1 code; none for an international body.")
@click.option("--contact", metavar="TEXT", help="Whom to call; never shown in the log.")
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    callback=_profile,
    metavar="FILE",
    help="Take what is not given from this TOML file.",
)
@_new_bundle
@asks_hub
async def invite(
    hub: "Hub",
    code: str,
    names: dict[str, str],
    profile: Profile,
    output: Path | None,
    **given: str | None,
) -> None:
    """Invite an institution: makes the bundle that its technician joins with, once."""
    body: dict[str, Json] = {
        "code": code,
        "role": given["role"] or profile.role,
        "names": {**profile.names, **names},
        "country": given["country"] or profile.country,
        "contact": given["contact"] or profile.contact,
    }
    if profile.code not in {None, code}:
        raise click.UsageError(f"The profile is that of {profile.code}, not of {code}.")
    if not body["role"] or not body["names"]:
        raise click.UsageError("Give a --role and at least one --name, or a --profile with both.")
    body = {name: value for name, value in body.items() if value is not None}
    await _hand_out_bundle(hub, "/v1/members", body, output)


@member.command(
    epilog=examples('nhri-hub member hold tm --reason "laptop stolen" -o tm-again.json')
)
@click.argument("code")
@click.option("--reason", required=True, help="Recorded in the log.")
@_new_bundle
@asks_hub
async def hold(hub: "Hub", code: str, reason: str, output: Path | None) -> None:
    """End an institution's keys because they are lost or stolen; makes a bundle for new ones."""
    await _hand_out_bundle(hub, member_path(code, "hold"), {"reason": reason}, output)


async def _hand_out_bundle(hub: "Hub", path: str, body: Json, output: Path | None) -> None:
    if output is None:
        print_json(await hub.post(path, body))
    else:
        with new_private_file(output) as file:
            bundle = await hub.post(path, body)
            file.write(msgspec.json.format(msgspec.json.encode(bundle), indent=2).decode() + "\n")
        if hub.as_json:
            print_json(bundle)
        else:
            say(f"The bundle is in {output}.")
    note("Send it to the institution's technician; it is good for one join.")
    note("Then compare the fingerprint aloud: nhri-hub member approve CODE")


@member.command("list", epilog=examples("nhri-hub member list"))
@asks_hub
async def list_members(hub: "Hub") -> None:
    """List the participants and the groups."""
    answer = await hub.get("/v1/members")
    if hub.as_json:
        print_json(answer)
        return
    listed = jsontext.convert(answer, Members)
    print_table(
        ("code", "role", "state", "country", "name"),
        ((m.code, m.role, m.state, m.country, m.name) for m in listed.members),
    )
    for code, members in listed.groups.items():
        say(f"group {code}: {', '.join(members) or 'nobody'}")


@member.command(epilog=examples("nhri-hub member show kz"))
@click.argument("code")
@asks_hub
async def show(hub: "Hub", code: str) -> None:
    """Show one participant: names, state, groups and keys."""
    listed = jsontext.convert(await hub.get("/v1/members"), Members)
    found = next((m for m in listed.members if m.code == code), None)
    if found is None:
        raise NotSo(f"There is no participant {code}.")
    keys = await hub.get("/v1/keys", {"member": code})
    groups = [group for group, members in listed.groups.items() if code in members]
    if hub.as_json:
        print_json({**msgspec.to_builtins(found), "groups": [*groups], **_object(keys)})
        return
    say(f"{found.code}: {found.role}, {found.state}")
    for tag, name in found.names.items():
        say(f"  {tag}: {name}")
    say(f"country: {found.country or 'none'}")
    say(f"groups: {', '.join(groups) or 'none'}")
    print_keys(jsontext.convert(keys, Keys).keys)


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _digits(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    digits = re.sub(r"[\s-]", "", value or "")
    if value is not None and not re.fullmatch(f"[0-9]{{{FINGERPRINT_DIGITS}}}", digits):
        raise click.BadParameter(f"a fingerprint has {FINGERPRINT_DIGITS} digits.")
    return digits or None


@member.command(
    epilog=examples(
        "nhri-hub member approve kz",
        'nhri-hub member approve kz --fingerprint "12345 67890 12345 67890 12345 67890"',
    )
)
@click.argument("code")
@click.option(
    "--fingerprint",
    metavar="DIGITS",
    callback=_digits,
    help="What the technician read to you; spaces do not matter.",
)
@asks_hub
async def approve(hub: "Hub", code: str, fingerprint: str | None) -> None:
    """Let an institution in, once its join fingerprint was compared aloud.

    Without --fingerprint it is shown here, to be compared with what the technician reads out.
    """
    if fingerprint is None:
        waiting = jsontext.convert(await hub.get(member_path(code, "join")), JoinRequest)
        fingerprint = _compared_aloud(waiting)
    await _change(hub, member_path(code, "approve"), {"fingerprint": fingerprint}, f"{code} is in")


def _compared_aloud(waiting: JoinRequest) -> str:
    """Have a person compare: to type the last group one has to have come to the end."""
    groups = spoken(waiting.fingerprint)
    note(f"{waiting.code} asked to join at {waiting.received}. Its fingerprint is")
    note("")
    note(f"    {groups}")
    note("")
    note("Call the institution at a number that you know from elsewhere. Its technician reads the")
    note("fingerprint on his or her own screen aloud, and every digit must be the same.")
    typed = click.prompt("Type the last group if it is, or press Ctrl-C", type=str, err=True)
    if typed.strip() != groups.rpartition(" ")[2]:
        raise NotSo("That is not the last group. Nothing was approved.")
    return waiting.fingerprint


@member.command(
    epilog=examples('nhri-hub member suspend tm --reason "asked for it by letter of 3 May"')
)
@click.argument("code")
@click.option("--reason", required=True, help="Recorded in the log.")
@asks_hub
async def suspend(hub: "Hub", code: str, reason: str) -> None:
    """Stop a participant from sending and receiving."""
    await _change(hub, member_path(code, "suspend"), {"reason": reason}, f"{code} is suspended")


@member.command(
    epilog=examples('nhri-hub member resume tm --reason "asked for it by letter of 9 May"')
)
@click.argument("code")
@click.option("--reason", required=True, help="Recorded in the log.")
@asks_hub
async def resume(hub: "Hub", code: str, reason: str) -> None:
    """End a suspension."""
    await _change(hub, member_path(code, "resume"), {"reason": reason}, f"{code} takes part again")


@member.command(epilog=examples("nhri-hub member group child-rights kz kg uz"))
@click.argument("code")
@click.argument("members", nargs=-1, required=True)
@asks_hub
async def group(hub: "Hub", code: str, members: tuple[str, ...]) -> None:
    """Say who is in a group; those who are not named are not in it any more."""
    done = f"The group {code} is {', '.join(members)}"
    await _change(hub, f"/v1/groups/{quote(code, safe='')}", {"members": [*members]}, done)


async def _change(hub: "Hub", path: str, body: Json, done: str) -> None:
    answer = await hub.post(path, body)
    if hub.as_json:
        print_json(answer)
    else:
        say(f"{done} (log entry {jsontext.convert(answer, Done).index}).")


def member_path(code: str, action: str) -> str:
    """The route of something to do about a participant."""
    return f"/v1/members/{quote(code, safe='')}/{action}"

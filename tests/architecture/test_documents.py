"""The documents say what is there: commands, targets, paths and links are looked up.

A command counts where a person would copy it from: in ``code`` or at the start of a line in a
fenced block (blocks marked ``text`` or ``mermaid`` are pictures). The tree in README.md is the
fenced block with a line that starts with ``schemas/``: one path a line, indented under its folder.
"""

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            path
            for folder in (".github", "docs", "deploy", "hub", "schemas", "connectors", "tests")
            for path in ROOT.glob(f"{folder}/**/*.md")
        ),
    ]
)
PROGRAMS = {"nhri-hub": "hub.cli.main", "nhri-connector": "connectors.cli.main"}
PICTURES = {"text", "mermaid"}

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?:\.venv/bin/)?(make|nhri-hub|nhri-connector)\b"
)
TREE = re.compile(r"^schemas/", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


def readme() -> str:
    assert README.exists(), "README.md is missing"
    return README.read_text(encoding="utf-8")


def code(text: str) -> Iterator[str]:
    """The lines of code in a document."""
    for language, block in FENCE.findall(text):
        if language not in PICTURES:
            yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE_CODE.findall(FENCE.sub("", text))


def commands(program: str, text: str) -> Iterator[list[str]]:
    """The words after every mention of a program as a command."""
    for line in code(text):
        for part in re.split(r"&&|;|\s\|\s", line):
            match = COMMAND.match(part)
            if match and match[1] == program:
                yield shlex.split(part[match.end() :], comments=True)


def missing_targets(text: str, makefile: str) -> set[str]:
    named = {
        word
        for words in commands("make", text)
        for word in words
        if re.fullmatch("[a-z][a-z-]*", word)
    }
    return named - set(TARGET.findall(makefile))


def option_of(group: click.Command, word: str) -> click.Parameter | None:
    name = word.partition("=")[0]
    parameters = group.get_params(click.Context(group))
    return next((p for p in parameters if name in (*p.opts, *p.secondary_opts)), None)


def itself(command: click.Command) -> click.Command:
    """The command that takes over where its module is imported when it is used."""
    return command.make_context(None, [], resilient_parsing=True).command


def unknown_word(command: click.Command, words: list[str]) -> str | None:
    """The first word of a command line that the command tree does not know."""
    command, rest = itself(command), iter(words)
    for word in rest:
        if word.startswith("-"):
            option = option_of(command, word)
            if option is None:
                return word
            if isinstance(option, click.Option) and not option.is_flag and "=" not in word:
                next(rest, None)
        elif isinstance(command, click.Group) and re.match("[a-z]", word):
            children = [command.commands.get(name) for name in word.split("|")]
            if None in children:
                return word
            command = itself(next(child for child in children if child is not None))
    return None


def tree_paths(text: str) -> Iterator[str]:
    """The paths that the tree block names, each with the folders above it."""
    blocks = [block for _, block in FENCE.findall(text) if TREE.search(block)]
    assert blocks, "there is no fenced block with a line that starts with schemas/"
    above: list[tuple[int, str]] = []
    for line in filter(str.strip, blocks[0].splitlines()):
        name = re.sub("[│├└─]", " ", line).split()[0]
        depth = line.index(name)
        above = [entry for entry in above if entry[0] < depth]
        above.append((depth, name))
        yield "".join(part for _, part in above)


def broken_links(document: Path, text: str) -> list[str]:
    targets = (first or second for first, second in LINK.findall(FENCE.sub("", text)))
    return [
        target
        for target in targets
        if not re.match("[a-z][a-z0-9+.-]*:|#", target)
        and not (document.parent / target.partition("#")[0]).exists()
    ]


def test_the_readme_names_the_two_commands_to_begin_with():
    named = {word for words in commands("make", readme()) for word in words}
    assert {"demo", "test"} <= named


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(document):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert missing_targets(document.read_text(encoding="utf-8"), makefile) == set()


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_subcommand_and_option_that_is_named_exists(program):
    module = PROGRAMS[program]
    if not (ROOT / module.replace(".", "/")).with_suffix(".py").exists():
        pytest.skip(f"{module} does not exist yet")
    main = importlib.import_module(module).main
    assert isinstance(main, click.Command), f"{module}.main is the command tree"
    unknown = {
        f"{document.name}: {program} {shlex.join(words)}: {word}"
        for document in DOCUMENTS
        for words in commands(program, document.read_text(encoding="utf-8"))
        if (word := unknown_word(main, words))
    }
    assert unknown == set()


def test_every_path_in_the_tree_of_the_readme_exists():
    paths = list(tree_paths(readme()))
    assert {"hub/", "schemas/", "connectors/", "deploy/", "tests/"} <= set(paths)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document):
    assert broken_links(document, document.read_text(encoding="utf-8")) == []


def test_the_lock_pins_every_dependency_by_hash_and_names_no_registry():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)==[^\n]*\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert {re.split(r"[^\w-]", name)[0] for name in declared} <= set(pins)
    assert len(pins) == len(re.findall(r"^\w", lock, re.MULTILINE))
    assert "://" not in lock
    assert "--index" not in lock


def test_a_document_that_no_longer_matches_is_noticed(tmp_path):
    @click.group()
    @click.option("--config", type=str)
    def hub():
        pass

    @hub.command()
    @click.option("--once", is_flag=True)
    def demo(once):
        pass

    class Later(click.Command):
        def make_context(self, *args, **extra):
            return hub.make_context(*args, **extra)

    top = click.Group(commands={"later": Later("later")})

    text = (
        "Run `ONCE=1 make demo nothing`, `make test`.\n\n```sh\n$ nhri-hub --config x demon\n```\n"
    )
    assert missing_targets(text, "demo: x\ntest:\n") == {"nothing"}
    assert [unknown_word(hub, words) for words in commands("nhri-hub", text)] == ["demon"]
    assert unknown_word(hub, ["--config", "x", "demo", "--once"]) is None
    assert unknown_word(hub, ["demo", "--twice"]) == "--twice"
    assert unknown_word(top, ["later", "demo", "--once"]) is None
    assert unknown_word(top, ["later", "demon"]) == "demon"
    assert broken_links(tmp_path / "a.md", "[a](b.md#c) [d](https://example.org) [e](#f)") == [
        "b.md#c"
    ]
    tree = "```\nschemas/   the contract\n  message.py  one message\nhub/\n├── doors/  http\n```\n"
    assert list(tree_paths(tree)) == ["schemas/", "schemas/message.py", "hub/", "hub/doors/"]

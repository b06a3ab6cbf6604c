"""The rules of the house that import-linter cannot see.

Pure modules take the clock and randomness as arguments: here no name may stand in them that reads
the one or makes the other, whether it is called or handed on (``default_factory=datetime.now``).
Which libraries they import is import-linter's to say (pyproject.toml).
"""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PURE_MODULES = sorted(
    [
        *ROOT.glob("schemas/**/*.py"),
        *ROOT.glob("hub/routing/**/*.py"),
        *ROOT.glob("hub/*/admission.py"),
        *ROOT.glob("hub/*/schedule.py"),
        ROOT / "hub/delivery/addresses.py",
        ROOT / "hub/delivery/subscription.py",
    ]
)

IMPURE_MODULES = {"os", "pathlib", "random", "secrets", "time", "urllib.request"}
IMPURE_NAMES = {
    "builtins.__import__",
    "builtins.breakpoint",
    "builtins.input",
    "builtins.open",
    "builtins.print",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "io.FileIO",
    "io.open",
    "uuid.uuid1",
    "uuid.uuid4",
    "uuid.uuid6",
    "uuid.uuid7",
    "uuid.uuid8",
}
KEY_MAKERS = {"generate", "generate_key", "generate_private_key", "generate_parameters"}

ED25519 = "from cryptography.hazmat.primitives.asymmetric.ed25519"

TOP_FOLDERS = {"hub", "schemas", "connectors", "deploy", "tests", "docs"}
TOP_FILES = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "requirements.lock",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
}
UNTRACKED = {"build", "dist"}


def full_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What a module imports and uses, each as (line, full name); a name of its own has none."""
    known = {name: f"builtins.{name}" for name in dir(builtins)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            if first in known:
                yield node.lineno, known[first] + dot + rest


def is_impure(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return (
        name in IMPURE_NAMES
        or any(f"{name}.".startswith(f"{impure}.") for impure in IMPURE_MODULES)
        or (module.startswith("cryptography.") and attribute in KEY_MAKERS)
    )


def impurities(source: str) -> list[str]:
    return sorted(
        {f"line {line}: {name}" for line, name in full_names(ast.parse(source)) if is_impure(name)}
    )


@pytest.mark.parametrize("path", PURE_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_module_reads_no_clock_makes_no_randomness_and_opens_nothing(path):
    assert impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\ndatetime.now()",
        "from datetime import datetime as moment\nmoment.utcnow()",
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
        "import datetime\nclass Entry:\n    made = field(default_factory=datetime.datetime.now)",
        "from datetime import date\ndate.today()",
        "import time\ntime.time()",
        "from time import monotonic as clock\nclock()",
        "def salt():\n    import secrets\n    return secrets.token_bytes(32)",
        "from random import Random",
        "import os\nos.urandom(16)",
        "from os import urandom as noise",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid4",
        "open('x')",
        "from pathlib import Path",
        "from urllib.request import urlopen",
        f"{ED25519} import Ed25519PrivateKey as Key\nKey.generate()",
    ],
)
def test_every_way_to_the_clock_to_randomness_or_to_a_file_is_seen(source):
    assert impurities(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)",
        "from uuid import UUID\nUUID(bytes=bytes(16))",
        "def reopen(timer, now):\n    return timer.open(now)",
        f"{ED25519} import Ed25519PrivateKey as Key\nKey.from_private_bytes(seed)",
        "class Entry:\n    time: str\n\n\ndef later(entry):\n    return entry.time > '2019'",
    ],
)
def test_pure_code_is_left_alone(source):
    assert impurities(source) == []


def test_the_top_level_holds_only_what_a_newcomer_is_told_of():
    found = {
        path.name + "/" * path.is_dir()
        for path in ROOT.iterdir()
        if not (path.is_dir() and (path.name.startswith(".") or path.name in UNTRACKED))
    }
    allowed = {f"{folder}/" for folder in TOP_FOLDERS} | TOP_FILES
    assert found - allowed == set()

"""``python runtime_lock.py pyproject.toml requirements.lock``: the lock without development tools.

It prints, with their hashes, the pins of what the project needs to run, so that an image holds no
test tools. It is run where the whole lock is installed: the packages say what they need.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name


def needed(dependencies: list[str]) -> set[NormalizedName]:
    """The names of dependencies and of all that they depend on, on this machine."""
    found: set[tuple[NormalizedName, str]] = set()
    waiting = [(Requirement(text), "") for text in dependencies]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in found:
                found.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in requires(name) or ()]
    return {name for name, _ in found}


def pins(lock: str) -> Iterator[tuple[NormalizedName, str]]:
    """The name and the text of every pin of a lock, hashes included."""
    for block in re.split(r"^(?=\w)", lock, flags=re.MULTILINE):
        if match := re.match(r"[\w.-]+", block):
            yield canonicalize_name(match[0]), block


def main() -> None:
    """Print the pins of the lock in the second argument that the project in the first needs."""
    project, lock = (Path(name).read_text(encoding="utf-8") for name in sys.argv[1:])
    names = needed(tomllib.loads(project)["project"]["dependencies"])
    sys.stdout.writelines(block for name, block in pins(lock) if name in names)


if __name__ == "__main__":
    main()

"""Everything that is generated from the code, by its path in the repository."""

from pathlib import Path

from hub.doors import openapi
from schemas import publication
from tests.publish import dashboard, markdown

ROOT = Path(__file__).parents[2]
FOLDER = "schemas/published"


def documents() -> dict[str, bytes]:
    """The bytes of every generated file."""
    published = publication.published()
    published["openapi.json"] = publication.render(openapi.document())
    return {
        **{f"{FOLDER}/{name}": raw for name, raw in published.items()},
        "docs/states.md": markdown.states().encode(),
        "docs/refusals.md": markdown.refusals().encode(),
        "docs/authorisation.md": markdown.authorisation().encode(),
        "deploy/grafana/dashboard.json": dashboard.render(),
    }


def strays() -> set[str]:
    """Files of the folder of generated files that nothing generates any more."""
    found = {f"{FOLDER}/{path.name}" for path in (ROOT / FOLDER).glob("*")}
    return found - documents().keys()

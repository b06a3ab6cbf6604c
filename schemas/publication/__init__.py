"""What the contract publishes for those who do not read Python, made from the code itself.

``schemas/published/`` holds the result; `make publish` writes it, and a test fails when it is not
what the code says.
"""

import json
from collections.abc import Mapping

from schemas.publication import formats, vectors


def render(document: Mapping[str, object]) -> bytes:
    """A document as it is published: UTF-8, two spaces a level, one line feed at the end."""
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def published() -> dict[str, bytes]:
    """Every published file of the contract by name: JSON Schemas and test vectors."""
    documents = {**formats.documents(), "vectors": vectors.document()}
    return {f"{name}.json": render(document) for name, document in documents.items()}

"""Source files: what a person wrote, as nodes that remember their line.

Three formats become one tree. YAML and JSON are read alike: a scalar without quotes is the text
that stands there, never a date, a number or a truth value by surprise (``16.10`` is a target of the
development goals, ``no`` is a language). Who needs a number asks ``Node.number``.

Markdown has its fields between two lines ``---`` at the top, and below them the texts. A line such
as ``--- ru`` begins the texts in one more language; within a language ``# heading`` is the title,
the first paragraph the summary, and the rest the body.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec
import yaml

from schemas import text as texts
from schemas.jsontext import MAX_DEPTH
from schemas.refusal import Refused
from schemas.signature import MAX_ENVELOPE

Format: TypeAlias = Literal["yaml", "json", "markdown"]

FORMATS: dict[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".md": "markdown",
    ".markdown": "markdown",
}
"""The format by a file name's ending."""

Value: TypeAlias = "str | int | float | list[Node] | dict[str, Node]"

_EMPTY = frozenset({"", "~", "null"})
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FENCE = "---"
_SECTION = re.compile(r"--- *(?P<tag>[A-Za-z][A-Za-z0-9-]*) *(?:---)?")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class ComposeError(ValueError):
    """A file cannot become a message: the line (from 1), the field as it is written, and why.

    ``field`` is empty where no field is to blame, as when a bracket is missing.
    """

    def __init__(self, line: int, field: str, sentence: str) -> None:
        """Keep the parts."""
        super().__init__(sentence)
        self.line = line
        self.field = field
        self.sentence = sentence

    def __str__(self) -> str:
        """``line 4, marking: …``."""
        return f"line {self.line}{', ' if self.field else ''}{self.field}: {self.sentence}"


class Node(msgspec.Struct, frozen=True):
    """A value, its line, its field as written (``figures[0].unit``), and whether it is unquoted."""

    value: Value
    line: int
    field: str
    plain: bool = False

    def error(self, sentence: str) -> ComposeError:
        """That something is wrong here."""
        return ComposeError(self.line, self.field, sentence)

    @property
    def empty(self) -> bool:
        """Whether nothing was filled in."""
        return self.plain and self.value in _EMPTY

    def text(self) -> str:
        """The text of a scalar.

        Raises:
            ComposeError: a list or fields below it stand here.
        """
        if not isinstance(self.value, str):
            raise self.error("One text must stand here.")
        return self.value

    def number(self) -> int | float | str:
        """The number of an unquoted scalar; the text where it is none, for a schema to refuse."""
        written = self.text()
        if not self.plain or not _NUMBER.fullmatch(written):
            return written
        number: int | float = json.loads(written)
        return number

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, in the order of the file."""
        yield self
        below = self.value.values() if isinstance(self.value, dict) else self.value
        if not isinstance(below, str | int | float):
            for node in below:
                yield from node.walk()


def read(text: str, form: Format) -> dict[str, Node]:
    """The fields of a file, texts in Unicode's form NFC with line feeds.

    Markdown gives its sections as the field ``texts``.

    Raises:
        ComposeError: the file is not of its format, names a field twice, is nested too deeply, or
            holds a character that no text may hold.
    """
    text = clean(text.removeprefix("\ufeff"))  # some editors write a byte order mark
    if len(text) > MAX_ENVELOPE:
        raise ComposeError(1, "", f"The file is longer than a message, which has {MAX_ENVELOPE}.")
    root = {"yaml": _read_yaml, "json": _read_json, "markdown": _read_markdown}[form](text)
    _check_characters(text, root)
    if not isinstance(root.value, dict):
        raise ComposeError(root.line, "", "The file does not begin with a field such as kind.")
    return root.value


def clean(text: str) -> str:
    """A text in NFC whose lines end in line feeds alone."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def _check_characters(text: str, root: Node) -> None:
    """Find a forbidden character where it stands; in a long text its field's line is not enough."""
    for number, line in enumerate(text.split("\n"), 1):
        try:
            texts.check(line.replace("\t", " "), "")
        except Refused as refusal:
            before = [node.field for node in root.walk() if node.line <= number]
            raise ComposeError(number, before[-1] if before else "", refusal.detail) from None


def _mapping(pairs: list[tuple[str, Node]], line: int, field: str) -> Node:
    members: dict[str, Node] = {}
    for name, node in pairs:
        if name in members:
            raise node.error(f"{name} stands here and on line {members[name].line}; keep one.")
        members[name] = node
    filled = {name: node for name, node in members.items() if not node.empty}
    return Node(filled, line, field)


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


# --- YAML ---


class _Loader(yaml.SafeLoader):
    """YAML's structure alone: no value is interpreted, and nothing stands for something else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else 1
        # An alias repeats what stands elsewhere: a short file can so become one of any size.
        if isinstance(event, yaml.AliasEvent):
            raise ComposeError(line, "", "Put a text that begins with * between quotes.")
        if self._depth > MAX_DEPTH:
            raise ComposeError(line, "", f"It is nested deeper than {MAX_DEPTH} levels.")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _read_yaml(text: str) -> Node:
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _not_yaml(error.problem or "", 1 + (mark.line if mark else 0)) from None
    except yaml.reader.ReaderError as error:
        line = 1 + text.count("\n", 0, error.position)
        character = f"U+{ord(text[error.position]):04X}"
        raise ComposeError(line, "", f"Take out the character {character}.") from None
    if node is None:
        raise ComposeError(1, "", "There are no fields.")
    return _yaml_node(node, "")


def _not_yaml(problem: str, line: int) -> ComposeError:
    hint = {
        "mapping values are not allowed here": "put a text with a colon between quotes",
        "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    }.get(problem, "look at brackets, quotes and indentation here and just above")
    return ComposeError(line, "", f"This is not YAML ({problem}): {hint}.")


def _yaml_node(node: yaml.Node, field: str) -> Node:
    line = node.start_mark.line + 1
    if not node.tag.endswith((":str", ":seq", ":map")):
        raise ComposeError(line, field, f"Write the value alone, without {node.tag}.")
    if isinstance(node, yaml.ScalarNode):
        return Node(clean(node.value), line, field, node.style is None)
    if isinstance(node, yaml.SequenceNode):
        items = [_yaml_node(item, f"{field}[{n}]") for n, item in enumerate(node.value)]
        return Node(items, line, field)
    pairs = []
    for key, value in node.value:
        key_line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ComposeError(key_line, field, "The name of a field is a plain word.")
        name = clean(key.value)
        below = _yaml_node(value, _below(field, name))
        pairs.append((name, msgspec.structs.replace(below, line=key_line)))
    return _mapping(pairs, line, field)


# --- JSON ---


def _read_json(text: str) -> Node:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ComposeError(error.lineno, "", f"This is not JSON: {error.msg}.") from None
    except RecursionError:
        raise ComposeError(1, "", f"It is nested deeper than {MAX_DEPTH} levels.") from None
    tokens = ((found[0], 1 + text.count("\n", 0, found.start())) for found in _TOKEN.finditer(text))
    return _json_node(tokens, next(tokens), "", 0)


def _json_node(
    tokens: Iterator[tuple[str, int]], token: tuple[str, int], field: str, depth: int
) -> Node:
    """The value that begins with ``token``; the JSON was found well-formed before."""
    written, line = token
    if depth > MAX_DEPTH:
        raise ComposeError(line, field, f"It is nested deeper than {MAX_DEPTH} levels.")
    if written == "[":
        items: list[Node] = []
        for start in _json_until("]", tokens):
            items.append(_json_node(tokens, start, f"{field}[{len(items)}]", depth + 1))
        return Node(items, line, field)
    if written == "{":
        pairs = []
        for key, key_line in _json_until("}", tokens):
            name = clean(json.loads(key))
            next(tokens)  # the colon
            below = _json_node(tokens, next(tokens), _below(field, name), depth + 1)
            pairs.append((name, msgspec.structs.replace(below, line=key_line)))
        return _mapping(pairs, line, field)
    if written.startswith('"'):
        return Node(clean(json.loads(written)), line, field)
    return Node(written, line, field, plain=True)


def _json_until(end: str, tokens: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """The tokens that begin an item or a member, up to the closing bracket."""
    for token in tokens:
        if token[0] == end:
            return
        if token[0] != ",":
            yield token


# --- Markdown ---


def _read_markdown(text: str) -> Node:
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        raise ComposeError(1, "", "Begin with a line ---, the fields, and another line ---.")
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise ComposeError(1, "", "The line --- that ends the fields is missing.")
    front = _read_yaml("\n".join(["", *lines[1:end]]))  # the first line keeps the others' numbers
    if not isinstance(front.value, dict):
        raise ComposeError(2, "", "Between the lines --- stand fields such as kind: …")
    fields = dict(front.value)
    language = fields.get("language")
    sections = _sections(lines, end + 1, language.text() if language else "")
    if not sections:
        return front
    fields.pop("language", None)
    given = fields.get("texts", Node({}, sections[0][1].line, "texts"))
    if not isinstance(given.value, dict):
        raise given.error("A text for each language must stand below it.")
    pairs = [*given.value.items(), *sections]
    return Node({**fields, "texts": _mapping(pairs, given.line, "texts")}, 1, "")


def read_sections(text: str, language: str) -> dict[str, Node]:
    """The texts in a file without fields, as below those of Markdown; the first in ``language``.

    Raises:
        ComposeError: a language stands twice, or a character is not allowed.
    """
    text = clean(text.removeprefix("\ufeff"))
    root = _mapping(_sections(text.split("\n"), 0, language), 1, "")
    _check_characters(text, root)
    assert isinstance(root.value, dict)
    return root.value


def _sections(lines: list[str], start: int, language: str) -> list[tuple[str, Node]]:
    """The texts from line ``start`` (from 0) on, each with its language."""
    starts = [(language, start - 1)]
    for number, line in enumerate(lines[start:], start):
        section = _SECTION.fullmatch(line.rstrip())
        if section:
            starts.append((section["tag"], number))
    ends = [number for _, number in starts[1:]] + [len(lines)]
    sections = []
    for (tag, number), end in zip(starts, ends, strict=True):
        words = _words(lines[:end], number + 1, f"texts.{tag}")
        if words and not tag:
            first = next(iter(words.values())).line
            raise ComposeError(first, "language", "Say which language it is: language: ru")
        if words:
            sections.append((tag, Node(words, number + 1, f"texts.{tag}")))
    return sections


def _words(lines: list[str], start: int, field: str) -> dict[str, Node]:
    """Title, summary and body of one language, from line ``start`` (from 0) on."""
    words: dict[str, Node] = {}

    def take(name: str, first: int, end: int, joint: str) -> int:
        value = joint.join(line.rstrip() for line in lines[first:end]).strip()
        if value:
            words[name] = Node(value, first + 1, f"{field}.{name}")
        return _next_words(lines, end)

    at = _next_words(lines, start)
    if at < len(lines) and re.match("# +", lines[at]):
        words["title"] = Node(lines[at][1:].strip(), at + 1, f"{field}.title")
        at = _next_words(lines, at + 1)
    if at < len(lines) and not lines[at].startswith("#"):
        blank = (n for n in range(at, len(lines)) if not lines[n].strip())
        # Lines of one paragraph are one paragraph, however the editor broke them.
        at = take("summary", at, next(blank, len(lines)), " ")
    take("body", at, len(lines), "\n")
    return words


def _next_words(lines: list[str], start: int) -> int:
    return next((n for n in range(start, len(lines)) if lines[n].strip()), len(lines))

"""The table of refusals, and that nothing else is ever said."""

import ast
import re
from pathlib import Path

import pytest

from schemas.refusal import MAX_DETAIL, REFUSALS, Refused

ROOT = Path(__file__).parents[3]


def codes_used():
    """(file and line, code) of every refusal in the tree whose code is written out."""
    for folder in ("schemas", "hub", "connectors"):
        for path in sorted(ROOT.glob(f"{folder}/**/*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func).endswith("Refused")
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args[0].value


def test_every_code_that_is_raised_stands_in_the_table():
    used = list(codes_used())
    assert len(used) > 50
    assert [(where, code) for where, code in used if code not in REFUSALS] == []


@pytest.mark.parametrize("code", REFUSALS)
def test_a_row_has_a_code_for_programs_and_a_title_for_people(code):
    row = REFUSALS[code]
    assert re.fullmatch("[a-z]+(-[a-z]+)*", code)
    assert re.fullmatch(r"[A-Z].*[^.]", row.title)
    assert 400 <= row.status < 600


def test_trying_again_helps_only_where_the_hub_is_short_of_something_or_waits_for_someone():
    assert {code for code, row in REFUSALS.items() if row.retryable} == {
        "quota",
        "busy",
        "storage",
        "too-slow",
        "held",
    }


def test_a_server_error_is_always_worth_another_try():
    assert all(row.retryable for row in REFUSALS.values() if row.status >= 500)


def test_the_titles_tell_the_refusals_apart():
    assert len({row.title for row in REFUSALS.values()}) == len(REFUSALS)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        REFUSALS["whim"] = REFUSALS["busy"]  # type: ignore[index] # that is the point


def test_a_refusal_says_code_sentence_and_path():
    refused = Refused("schema", "The sender is never in the audience.", "$.audience")
    assert str(refused) == "schema: The sender is never in the audience. (at $.audience)"
    assert refused.row is REFUSALS["schema"]


def test_the_path_is_left_out_where_there_is_none():
    assert str(Refused("busy", "Please wait.")) == "busy: Please wait."


def test_a_code_that_is_not_in_the_table_is_a_fault_of_the_program():
    with pytest.raises(KeyError):
        Refused("whim", "I do not feel like it.")


def test_what_a_refusal_quotes_cannot_steer_a_terminal():
    refused = Refused("schema", "unknown field `\x1b[2J\u202eabc\n`, Тошкент.")
    assert refused.detail == r"unknown field `\x1b[2J\u202eabc\n`, Тошкент."


def test_what_a_refusal_quotes_is_cut():
    refused = Refused("schema", "unknown field `" + "x" * 100_000)
    assert len(refused.detail) == MAX_DETAIL + 1
    assert refused.detail.endswith("x…")

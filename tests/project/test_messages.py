"""`make messages` finds the texts that a user can see."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.messages import ROOT, messages

SOURCE = '''
    """A docstring, which nobody is shown by the program."""

    @app.command()
    def show(name: Annotated[str, typer.Option(help="Name of the suite.")]) -> None:
        """Show a suite."""
        if name in taken:
            raise ConfigError(f"option --name: {name!r} is " + ("a baseline" if old else "taken"))
        text = "no such suite"
        if late:
            text = f"suite {self.name} has no workload"
        raise UnknownNameError(text)


    def _refusal(where: str) -> ConfigError:
        return ConfigError(f"{where}: refused: {_reason(where)}")


    def _reason(where: str) -> str:
        return "the file is too large"


    def check(where: str) -> None:
        notes.append("Too few seeds." if few else f"{len(seeds)} seeds.")
        warn("a loss is negative", stacklevel=2)
        typer.echo("done")
        raise _refusal(where)
'''


def test_each_kind_is_found_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(textwrap.dedent(SOURCE).lstrip("\n"), encoding="utf-8")
    found = [(message.line, message.kind, message.text) for message in messages(tmp_path)]
    assert found == [
        (4, "help", "Name of the suite."),
        (4, "help", "Show a suite."),
        (7, "ConfigError", "option --name: {name} is [a baseline|taken]"),
        (11, "UnknownNameError", "no such suite"),
        (11, "UnknownNameError", "suite {name} has no workload"),
        (19, "text", "the file is too large"),
        (23, "note", "Too few seeds."),
        (23, "note", "{} seeds."),
        (24, "warning", "a loss is negative"),
        (25, "echo", "done"),
        (26, "ConfigError", "{where}: refused: {}"),
    ]


def test_the_package_has_messages_of_each_kind() -> None:
    found = messages()
    assert {"help", "echo", "note", "warning", "ConfigError", "DatasetError", "text"} <= {each.kind for each in found}
    assert all((each.path.startswith("ganno_bench/"), each.text) == (True, each.text.strip()) for each in found)


def test_errors_start_in_lower_case_and_have_no_final_dot() -> None:
    found = [
        str(message)
        for message in messages()
        if message.is_error and (re.match(r"[A-Z][a-z]+\b(?!\.)", message.text) or re.search(r"[^.]\.$", message.text))
    ]
    assert not found, "\n".join(found)


def test_help_texts_are_sentences() -> None:
    found = [str(message) for message in messages() if message.kind == "help" and not message.text.endswith(".")]
    assert not found, "\n".join(found)


DIALECT = {
    r"but for": "except",
    r"goes? (on|by)|going on|gone on|went on": "resumes, continues; is named",
    r"(is|are) through": "has finished",
    r"will do": "is enough",
    r"those of whom|such as has|whatever of": "repeat the noun",
    r"mend(s|ed)?": "fix",
    r"beside(?!:)": "next to, in addition to",
    r"others than": "differ from",
    r"be it|as it were|nobody's|hopeless": "plain words",
    r"tell them apart|told apart|be told from": "distinguish",
    r"take home|at home": "in your own training loop",
    r"gets? (the file |it )?back": "restore",
    r"says (what|which|who|itself|how)|is said": "shows, names",
    r"looks? at": "reads, measures",
    r"lies? (otherwise|elsewhere)|laid aside": "differ; be in another folder; write to",
    r"is (always )?there(?=[;,]|$| already| with)|exists already": "exists",
    r"too(?=[,.;:)]|$)": "also",
    r"the very": "leave it out",
    r"anew": "again",
    r"as for everyone|of everyone": "for every entry",
    r"the same command (resumes|again, it)|repeat the command": "run the same command again to ...",
    r"(?<!there )(is|are) no(?! longer)": "is not a",
    r"derived of|in its stead|stands for its": "derived from; instead; replaces",
}
"""Words that a reader has to guess at, as patterns, and what to write; CONTRIBUTING.md has the rules under "Words"."""

FORMS = {
    r"is (less|fewer|more|larger|smaller|longer|greater) than|has (more|fewer) than \{": "must be at least, at most",
    r"is negative|is not finite": "must be at least 0; must be finite",
    r"must be [^;:]*, not \{\w*\}": "must be ... (value: ...)",
}
"""Patterns in messages about wrong values, and the form that all such messages have."""


def found_in(text: str, patterns: Mapping[str, str]) -> list[str]:
    return [
        f"{match[0]!r}: {better}"
        for pattern, better in patterns.items()
        if (match := re.search(rf"(?<![\w-])({pattern})(?![\w-])", text, re.IGNORECASE))
    ]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("list built-in ones, too", "too"),
        ("the file is there already", "is there"),
        ("x is no number", "is no"),
        ("x must be {error}, not {value}", "must be {error}, not {value}"),
        ("x is longer than {} characters", "is longer than"),
    ],
)
def test_patterns_match(text: str, match: str) -> None:
    assert [line.partition(": ")[0] for line in found_in(text, DIALECT | FORMS)] == [repr(match)]


@pytest.mark.parametrize(
    "text", ["there is no limit", "is no longer finite", "the file is too large", "beside: A flag."]
)
def test_patterns_allow_plain_words(text: str) -> None:
    assert found_in(text, DIALECT | FORMS) == []


def test_messages_are_free_of_dialect() -> None:
    found = [f"{message}\n    {fault}" for message in messages() for fault in found_in(message.text, DIALECT | FORMS)]
    assert not found, f"{len(found)} faults\n" + "\n".join(found)


def test_docstrings_are_free_of_dialect() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.body[0].lineno}  {fault}"
        for file in sorted((ROOT / "ganno_bench").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node))
        for fault in found_in(" ".join(text.split()), DIALECT)
    ]
    assert not found, f"{len(found)} faults\n" + "\n".join(found)

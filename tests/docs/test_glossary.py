"""The glossary defines every term of the tables and lists, each once."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from ganno_bench.cli.catalogue import Kind
from ganno_bench.core.records import Factor, RunRecord
from ganno_bench.leaderboard.robustness_tables import FACTORS, robustness_table, setting_table, short_label
from ganno_bench.leaderboard.tables import OPEN_OPTIMIZER, TextTable, entry_label, main_table, workload_table
from ganno_bench.schedulers.controls import CONTROLS
from ganno_bench.scoring.results import Row, Ruleset
from ganno_bench.scoring.robustness import Setting, robustness
from ganno_bench.scoring.standings import standings
from tests.helpers.fake_records import fake_benchmark
from tests.helpers.varied_records import varied_benchmark

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
UNITS = {"%"}


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield kind (`term`, `column` or `mark`), first and second cell of each row of the page's tables."""
    kind = ""
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            kind = ""
            continue
        first, second = (cell.strip() for cell in line.strip("| ").split(" | ", 1))
        if not kind:
            kind = first
        elif not set(first) <= set("- "):
            yield kind, first, second


def names(cell: str) -> list[str]:
    return [name.strip().lower() for name in cell.split(",")]


WORDS = {name for kind, first, _ in rows() if kind != "mark" for name in (first.lower(), *names(first))}
MARKS = {mark for kind, first, _ in rows() if kind == "mark" for mark in re.findall(r"`([^`]+)`", first)}
RESULT = standings(fake_benchmark(["mlp-depth-2", "mlp-depth-16"], n_seeds=3), n_resamples=20)


def is_defined(title: str) -> bool:
    """Return whether the glossary has a title, or else each of its parts: `Score (IQM)` is a score and an IQM."""
    parts = [part.strip().lower() for part in re.split(r"[()]", title) if part.strip()]
    return title.lower() in WORDS or all(part in WORDS | UNITS for part in parts)


def tables() -> list[TextTable]:
    """Return the tables of some standings and of some varied runs."""
    records = varied_benchmark({"cosine": 1.0, "wsd": 0.5})
    varied = robustness(records, standings(records, n_resamples=20))
    assert varied is not None
    of_standings = [make(RESULT, ruleset) for ruleset in RESULT.tables for make in (main_table, workload_table)]
    return [*of_standings, robustness_table(varied), setting_table(varied)]


def titles_in(module_name: str) -> Iterator[str]:
    """Yield the column titles in the code of a module, unless they contain data."""
    module = importlib.import_module(module_name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Column":
            title = node.args[0]
            values = title.values if isinstance(title, ast.JoinedStr) else [title]
            parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in values]
            texts = [
                part.value if isinstance(part, ast.Constant) else vars(module).get(getattr(part, "id", ""))
                for part in parts
            ]
            if all(isinstance(text, str) for text in texts) and any(texts):
                yield "".join(map(str, texts))


def test_no_term_is_defined_twice() -> None:
    counts = Counter(name for kind, first, _ in rows() if kind != "mark" for name in names(first))
    assert [name for name, n in counts.items() if n > 1] == []
    marks = Counter(first for kind, first, _ in rows() if kind == "mark")
    assert [mark for mark, n in marks.items() if n > 1] == []
    assert len(counts) > 90


def test_every_definition_is_a_sentence() -> None:
    kinds = Counter(kind for kind, _, _ in rows())
    assert set(kinds) == {"term", "column", "mark"}
    for _, first, definition in rows():
        assert re.fullmatch(r"[A-Z`*1-9].*\.", definition), f"{first}: begin with a capital and end with a full stop"


def test_every_column_of_the_tables_is_defined() -> None:
    shown = {column.title for table in tables() for column in table.columns}
    assert {"Rank", "Score (IQM)", "P(better)", "Speed-up", "Test loss (nats)", "Own", "Worst"} <= shown
    assert [title for title in sorted(shown) if not is_defined(title)] == []


@pytest.mark.parametrize("module", ["tables", "robustness_tables", "evaluation_tables"])
def test_every_column_in_the_code_of_the_tables_is_defined(module: str) -> None:
    found = set(titles_in(f"ganno_bench.leaderboard.{module}"))
    assert len(found) > 6
    assert [title for title in sorted(found) if not is_defined(title)] == []


def test_every_column_of_the_leaderboard_is_defined() -> None:
    lines = (ROOT / "leaderboard/README.md").read_text(encoding="utf-8").splitlines()
    heads = [line for line, rule in pairwise(lines) if re.fullmatch(r"\|[-:| ]+\|", rule)]
    found = {cell.strip() for head in heads for cell in head.strip("|").split("|")}
    assert "Entry" in found
    assert [title for title in sorted(found) if not is_defined(title)] == []


def test_every_mark_of_an_entry_is_defined() -> None:
    row = Row(
        entry="wsd@default",
        ruleset="tuned",
        kind="entry",
        iqm=0.0,
        diverged=0,
        n_runs=30,
        n_workloads=3,
        open_optimizer=True,
        baseline=True,
    )
    label = entry_label(row, "zero-shot", 5)
    assert label == f"wsd@default{OPEN_OPTIMIZER}* (tuned) (3/5)"
    for mark in ("@default", OPEN_OPTIMIZER, "*", "(tuned)", "(3/5)"):
        assert mark in MARKS


def test_every_cell_that_is_no_number_is_defined() -> None:
    rows = [row for ruleset in RESULT.tables for row in main_table(RESULT, ruleset).rows]
    cells = {cell for row in rows for cell in (row[0], *row[2:])}
    found = {cell for cell in cells if not re.match(r"[+-]?\d", cell)}
    assert "-" in found
    assert found - MARKS == set()
    assert "=" in MARKS  # a shared rank, such as 2=


def test_every_kind_of_entry_run_and_factor_is_a_term() -> None:
    kinds = [*get_args(Ruleset), *get_args(get_type_hints(Row)["kind"])]
    roles = [f"{role} run" for role in get_args(RunRecord.model_fields["role"].annotation)]
    factors = [FACTORS[factor] for factor in get_args(Factor)]
    columns = [short_label(Setting(factor, 2.0)).removesuffix(" 2x") for factor in get_args(Factor)]
    found = [*kinds, *roles, *factors, *columns]
    assert {"tuned", "oracle", "varied run", "weight decay", "base lr"} <= {*found}
    assert [term for term in found if term not in WORDS] == []


def test_every_list_and_every_control_entry_is_a_term() -> None:
    for kind in Kind:
        assert kind.removesuffix("s") in WORDS, kind
    for control in CONTROLS:
        assert control.replace("-", " ") in WORDS, control

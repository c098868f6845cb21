"""The table of model families has every family with every argument and its default."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from ganno_bench.workloads.models import MODELS, check_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


@pytest.mark.parametrize("family", MODELS.entries())
def test_a_family_stands_in_the_table_with_its_arguments(family: str) -> None:
    (row,) = re.findall(rf"^\| `{family}`.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = dict(re.findall(r"`(\w+)`(?: ([\w.]+))?", row.split("|")[2]))
    arguments = {
        name: "" if parameter.default is inspect.Parameter.empty else str(parameter.default).lower()
        for name, parameter in inspect.signature(MODELS.load(family)).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert documented == arguments


def test_the_documented_descriptions_are_valid() -> None:
    lines = re.findall(r"^model = .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        check_model(tomllib.loads(line)["model"], str(PAGE))

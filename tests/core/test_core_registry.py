from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ganno_bench.core import registry as module
from ganno_bench.core.errors import PluginError, UnknownNameError
from ganno_bench.core.registry import Entry, Registry

SHAPES = Registry(
    "shape", {"square": "fractions:Fraction", "circle": "decimal:Decimal", "lost": "fractions:Fractoin"}, group="shapes"
)


def installed(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    found = [EntryPoint(name, target, "shapes") for name, target in points]
    monkeypatch.setattr(module, "entry_points", lambda group: found if group == "shapes" else [])


def test_names_are_sorted_and_nothing_is_imported_to_list_them(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("arc", "no.such.module:Arc"))
    assert list(SHAPES.entries()) == ["arc", "circle", "lost", "square"]
    assert SHAPES.entries()["square"] == Entry("square", "fractions:Fraction", "built-in")
    assert SHAPES.entries()["arc"].source == "entry point"


def test_a_name_gives_the_object() -> None:
    from fractions import Fraction

    assert SHAPES.load("square") is Fraction


def test_an_installed_package_brings_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("arc", "string:Template"))
    assert SHAPES.load("arc").__name__ == "Template"


def test_an_installed_package_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "round_things-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: round-things\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[own_shapes]\ndisc = string:Template\nsquare = string:Formatter\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = Registry("shape", {"square": "fractions:Fraction"}, group="own_shapes").entries()
    assert entries["disc"] == Entry("disc", "string:Template", "round-things 1.2", package="round-things")
    assert entries["square"].error == "shape 'square' is registered twice: by built-in and by round-things 1.2"


def test_a_name_that_two_claim_is_refused_and_the_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("square", "string:Template"), ("arc", "string:Template"), ("arc", "string:Formatter"))
    for name in ("square", "arc"):
        with pytest.raises(PluginError, match=f"shape '{name}' is registered twice: by .* and by entry point"):
            SHAPES.load(name)
    assert SHAPES.load("circle").__name__ == "Decimal"


def test_one_package_that_is_found_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("arc", "string:Template"), ("arc", "string:Template"))
    assert SHAPES.load("arc").__name__ == "Template"


def test_a_registry_without_a_group_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "entry_points", None)
    assert list(Registry("shape", {"square": "fractions:Fraction"}).entries()) == ["square"]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("sqare", "unknown shape 'sqare'; did you mean 'square'?"),
        ("zzz", "unknown shape 'zzz'; valid: circle, lost, square"),
        ("./no/such.py:Thing", "shape file 'no/such.py' does not exist"),
        ("./mine.py", "shape './mine.py' is a file; name the shape in it: ./mine.py:NAME"),
    ],
)
def test_an_unknown_name(ref: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=f"^{re.escape(message)}$"):
        SHAPES.load(ref)


def test_a_target_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("arc", "no_such_module:Arc"))
    with pytest.raises(
        PluginError, match=r"^shape 'arc' \(entry point\) cannot be imported: ModuleNotFoundError: No mod"
    ):
        SHAPES.load("arc")
    with pytest.raises(
        PluginError, match=r"^shape 'lost': .*fractions.py has no 'Fractoin'; did you mean 'Fraction'\?$"
    ):
        SHAPES.load("lost")


# Files


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "class Thing:\n    size = 1\n")
    first = SHAPES.load(f"{path}:Thing")
    assert SHAPES.load(f"{path}:Thing") is first
    assert SHAPES.load(f"{tmp_path}/../{tmp_path.name}/mine.py:Thing") is first
    write(path, "class Thing:\n    size = 2\n")
    assert SHAPES.load(f"{path}:Thing").size == 2
    assert first.size == 1


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mine.py", "from pathlib import Path\nplace = Path(__file__).parent.name\n")
    assert [SHAPES.load(f"{tmp_path}/{folder}/mine.py:place") for folder in ("a", "b")] == ["a", "b"]


def test_a_relative_path_and_a_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.py", "thing = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SHAPES.load("./mine.py:thing") == SHAPES.load("mine.py:thing") == SHAPES.load("~/mine.py:thing") == 3


def test_a_name_that_is_the_name_of_a_file_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "my_thing.py", "thing = 3\n")
    monkeypatch.chdir(tmp_path)
    hint = "unknown shape 'my-thing'; to use the file my_thing.py, name the shape in it: ./my_thing.py:NAME"
    with pytest.raises(UnknownNameError, match=re.escape(hint)):
        SHAPES.load("my-thing")


def test_a_file_may_hold_a_dataclass_with_postponed_annotations(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass(frozen=True)\nclass Thing:\n    shared: ClassVar[int] = 3\n    own: int = 4\n",
    )
    assert SHAPES.load(f"{path}:Thing")() == SHAPES.load(f"{path}:Thing")(4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (mine.py:1)"),
        ("class Thing(:\n", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("raise ValueError('several\\nlines')", "ValueError: several lines (mine.py:1)"),
        ("1 / 0", "ZeroDivisionError: division by zero (mine.py:1)"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path / "mine.py", text)
    before = set(sys.modules)
    for _ in range(2):  # not half-imported at the second time
        with pytest.raises(PluginError) as caught:
            SHAPES.load(f"{path}:Thing")
        assert str(caught.value) == f"shape file {str(path)!r} cannot be imported: {reason}"
    assert not [name for name in set(sys.modules) - before if "mine" in name]


def test_a_misspelt_name_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "class Thing: ...\n_private = 1\n")
    with pytest.raises(PluginError, match=r"mine.py has no 'Think'; did you mean 'Thing'\?$"):
        SHAPES.load(f"{path}:Think")
    with pytest.raises(PluginError, match=r"mine.py has no 'zzz'; valid: Thing$"):
        SHAPES.load(f"{path}:zzz")


def test_only_what_a_file_defines_of_the_right_kind_is_suggested(tmp_path: Path) -> None:
    """The message for a misspelt name has no imported names and no objects of another kind."""
    classes = Registry("shape", {}, accepts=lambda value: isinstance(value, type))
    text = "import math\nfrom decimal import Decimal\nfrom statistics import mean\nsize = 1\ndef area(): ...\n"
    nothing = write(tmp_path / "nothing.py", text)
    with pytest.raises(PluginError, match=r"nothing.py has no 'Missing'; it defines no shape$"):
        classes.load(f"{nothing}:Missing")
    mine = write(tmp_path / "mine.py", f"{text}class Disc: ...\nclass Box(Decimal): ...\nclass _Base: ...\n")
    with pytest.raises(PluginError, match=r"mine.py has no 'Missing'; valid: Box, Disc$"):
        classes.load(f"{mine}:Missing")
    with pytest.raises(PluginError, match=r"mine.py has no 'Decimals'; valid: Box, Disc$"):
        classes.load(f"{mine}:Decimals")


def test_a_package_may_define_a_name_in_a_module_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "round_shapes").mkdir()
    write(tmp_path / "round_shapes" / "inner.py", "class Disc: ...\n")
    write(
        tmp_path / "round_shapes" / "__init__.py", "from decimal import Decimal\nfrom round_shapes.inner import Disc\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(monkeypatch, ("disc", "round_shapes:Disk"))
    with pytest.raises(PluginError, match=r"has no 'Disk'; did you mean 'Disc'\?$"):
        SHAPES.load("disc")


def test_an_unknown_prefix_gives_the_valid_ones() -> None:
    shapes = Registry("shape", {"square": "fractions:Fraction"}, prefixes=("solid:", "plane:"))
    for ref, nearest in (
        ("lion:Lion", "unknown prefix 'lion:'; valid: FILE.py:, plane:, solid:"),
        ("plain:Square", "unknown prefix 'plain:'; did you mean 'plane:'?"),
    ):
        with pytest.raises(UnknownNameError, match=f"^unknown shape {ref!r}: {re.escape(nearest)}$"):
            shapes.load(ref)
    with pytest.raises(UnknownNameError, match=r"^unknown shape 'zzz'; valid: square$"):
        shapes.load("zzz")

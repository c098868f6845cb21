"""A plugin's file and the neighbours that it imports: imported, hashed and re-imported together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganno_bench.core import plugin_file
from ganno_bench.core.errors import PluginError, UnknownNameError
from ganno_bench.core.plugin_file import import_file, source_files, source_hash


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Forget what a test imported."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    plugin_file.forget()
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    """Write files and return the first one; `pack__inner` is `pack/inner.py`, and `pack__init` a package's own file."""
    paths = [folder / f"{name.replace('__', '/').replace('/init', '/__init__')}.py" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths[0]


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import rates", ["rates.py"]),
        ("import rates as r, json", ["rates.py"]),
        ("from rates import value", ["rates.py"]),
        ("def late():\n    import rates", ["rates.py"]),
        ("if False:\n    import rates", ["rates.py"]),
        ("from importlib import import_module\nimport_module('rates')", ["rates.py"]),
        ("__import__('rates')", ["rates.py"]),
        ("import chain", ["chain.py", "rates.py"]),
        ("import circle", ["circle.py"]),
        ("import pack.inner", ["pack/__init__.py", "pack/inner.py", "rates.py"]),
        ("from pack import inner", ["pack/__init__.py", "pack/inner.py", "rates.py"]),
        ("import pack", ["pack/__init__.py"]),
        ("from pack import near", ["pack/__init__.py", "pack/inner.py", "pack/near.py", "rates.py"]),
        ("from bare.deep import value", ["bare/deep.py"]),
        ("import json, torch, statistics", []),
        ("from . import rates", ["rates.py"]),
        ("from .................... import rates", []),
        ("'import rates'", []),
        ("import missing", []),
    ],
)
def test_what_a_file_imports_from_beside_it(tmp_path: Path, source: str, used: list[str]) -> None:
    plugin = write(
        tmp_path,
        mine=source,
        rates="value = 1",
        unused="import rates",
        chain="import rates",
        circle="import mine",
        statistics="value = 'not the standard library'",
        pack__init="",
        pack__inner="from rates import value",
        pack__near="from .inner import value",
        bare__deep="value = 2",
        torch__data="",  # must not hide the installed PyTorch
    )
    assert [str(path.relative_to(tmp_path)) for path in source_files(plugin)] == ["mine.py", *used]


def test_the_hash_is_of_all_that_is_imported_and_of_nothing_else(tmp_path: Path) -> None:
    plugin = write(tmp_path, mine="import rates", rates="value = 1", unused="")
    before = source_hash(plugin)
    write(tmp_path, unused="value = 3")
    assert source_hash(plugin) == before
    assert source_hash(write(tmp_path / "moved", yours="import rates", rates="value = 1")) == before
    write(tmp_path, rates="value = 2")
    assert source_hash(plugin) not in (before, source_hash(plugin, beside=False))


def test_it_is_imported_as_in_a_script(tmp_path: Path) -> None:
    plugin = write(tmp_path, mine="import rates\nfrom pack import inner\nvalue = rates.value + inner.value\n"
                   "def late():\n    import slow\n    return slow.value", rates="value = 1", slow="value = 5",
                   pack__init="", pack__inner="value = 10")  # fmt: skip
    module = import_file(plugin, "scheduler")
    assert (module.value, module.late()) == (11, 5)
    assert import_file(plugin, "scheduler") is module


@pytest.mark.parametrize("edited", ["rates", "pack__inner", "pack__init"])
def test_an_edited_neighbour_is_imported_anew(tmp_path: Path, edited: str) -> None:
    files = {"rates": "value = 1", "pack__init": "value = 1", "pack__inner": "value = 1"}
    plugin = write(
        tmp_path,
        mine="import chain\nvalue = chain.value",
        chain="import rates, pack\nfrom pack import inner\nvalue = rates.value + pack.value + inner.value",
        **files,
    )
    first = import_file(plugin, "scheduler")
    write(tmp_path, **{edited: "value = 100"})
    assert import_file(plugin, "scheduler").value == 102
    assert first.value == 3


def test_an_edit_of_the_same_length_in_the_same_second_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for value in range(9):  # Python's bytecode cache would miss these edits
        plugin = write(tmp_path, mine=f"import rates\nvalue = {value}, rates.value", rates=f"value = {value}")
        assert import_file(plugin, "scheduler").value == (value, value)


def test_plugins_share_an_unchanged_neighbour(tmp_path: Path) -> None:
    one, two = write(tmp_path, a="import rates"), write(tmp_path, b="import rates", rates="value = []")
    assert import_file(one, "scheduler").rates is import_file(two, "scheduler").rates


def test_two_neighbours_of_one_name_are_refused(tmp_path: Path) -> None:
    import_file(write(tmp_path / "a", mine="import rates", rates="value = 1"), "scheduler")
    other = write(tmp_path / "b", mine="import rates", rates="value = 2")
    with pytest.raises(
        PluginError, match=r"b/mine.py' imports 'rates' from its folder, but '.*a/rates.py' was already imported"
    ):
        import_file(other, "scheduler")


def test_what_is_installed_is_not_hidden(tmp_path: Path) -> None:
    plugin = write(tmp_path, mine="import json, numpy\nvalue = numpy.pi, json.dumps(1)", numpy="pi = 3", json="")
    assert import_file(plugin, "scheduler").value == (3.141592653589793, "1")
    assert source_files(plugin) == (plugin,)


def test_a_folder_that_is_on_the_path_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = write(tmp_path, mine="import rates\nvalue = rates.value", rates="value = 1")
    assert import_file(plugin, "scheduler").value == 1
    assert [path.name for path in source_files(plugin)] == ["mine.py", "rates.py"]


def test_what_cannot_be_imported_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"scheduler file '.*/none.py' does not exist"):
        import_file(tmp_path / "none.py", "scheduler")
    for source, reason in (("import rates", "SyntaxError: invalid syntax"), ("import missing", "ModuleNotFoundError")):
        plugin = write(tmp_path, mine=source, rates="value =")
        with pytest.raises(PluginError, match=f"scheduler file '.*/mine.py' cannot be imported: {reason}"):
            import_file(plugin, "scheduler")


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = write(tmp_path, mine="import rates", rates="value = 1")
    read = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == "rates.py":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(PluginError, match=r"scheduler file '.*/mine.py' cannot be read: PermissionError: .*rates.py"):
        import_file(plugin, "scheduler")

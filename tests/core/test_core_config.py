from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from ganno_bench.core.config import Config, content_hash, parse_config, read_toml
from ganno_bench.core.errors import ConfigError


class Leaf(Config):
    size: Annotated[int, Field(ge=1)]
    scale: float = 1.0
    pair: tuple[int, int] = (0, 0)


class Tree(Config):
    name: str
    leaf: Leaf
    spare: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


GOOD: dict[str, Any] = {"name": "oak", "leaf": {"size": 3}}


def test_what_is_read_is_frozen_and_complete() -> None:
    tree = parse_config(Tree, GOOD | {"leaves": [{"size": 1, "pair": [1, 2]}], "options": {"a": [1]}}, "f.toml")
    assert tree == Tree(name="oak", leaf=Leaf(size=3), leaves=(Leaf(size=1, pair=(1, 2)),), options={"a": [1]})
    with pytest.raises(ValidationError, match="frozen"):
        tree.name = "elm"
    assert parse_config(Tree, GOOD | {"leaf": {"size": 3, "scale": 2}}, "f.toml").leaf.scale == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "elm"}, "unknown key 'nmae'; did you mean 'name'?"),
        ({"zzz": 1}, "unknown key 'zzz'; valid: by_name, leaf, leaves, name, options, spare"),
        ({"leaf": {"size": 1, "scael": 2.0}}, "unknown key 'leaf.scael'; did you mean 'scale'?"),
        ({"leaf": {"szie": 1}}, "unknown key 'leaf.szie'; did you mean 'size'?"),
        ({"spare": {"szie": 1}}, "unknown key 'spare.szie'; did you mean 'size'?"),
        ({"leaves": [{"size": 1}, {"size": 1, "x": 0}]}, "unknown key 'leaves[1].x'; valid: pair, scale, size"),
        ({"by_name": {"red": {"size": 1, "pare": 2}}}, "unknown key 'by_name.red.pare'; did you mean 'pair'?"),
        ({"by_name": {"leaf": {"szie": 1}}}, "unknown key 'by_name.leaf.szie'; did you mean 'size'?"),
        ({"leaf": {}}, "key 'leaf.size' is missing"),
        ({"leaf": {"size": "3"}}, "key 'leaf.size': Input should be a valid integer (value: '3')"),
        ({"leaf": {"size": 3.5}}, "key 'leaf.size': Input should be a valid integer (value: 3.5)"),
        ({"leaf": {"size": True}}, "key 'leaf.size': Input should be a valid integer (value: True)"),
        ({"leaf": {"size": 0}}, "key 'leaf.size': Input should be greater than or equal to 1 (value: 0)"),
        (
            {"leaf": {"size": 1, "scale": float("inf")}},
            "key 'leaf.scale': Input should be a finite number (value: inf)",
        ),
        ({"leaf": {"size": 1, "pair": [1, 2, 3]}}, "key 'leaf.pair': "),
        ({"leaves": [{"size": 1, "pair": ["x", 1]}]}, "key 'leaves[0].pair[0]': Input should be a valid integer"),
        ({"leaf": 3}, "key 'leaf': Input should be an object (value: 3)"),
        ({"name": 3}, "key 'name': Input should be a valid string (value: 3)"),
    ],
)
def test_an_error_names_file_key_value_and_the_nearest_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Tree, GOOD | change, "f.toml")
    assert str(caught.value).startswith(f"f.toml: {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_toml_is_read_as_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes('a = "ä"\nb = [1, 2.5]\n[c]\nd = true\n'.encode())
    assert read_toml(tmp_path / "a.toml") == {"a": "ä", "b": [1, 2.5], "c": {"d": True}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = ", "is not valid TOML: Invalid value (at "),
        (b"a = 1\na = 2\n", "is not valid TOML: Cannot overwrite a value (at line 2"),
        (b"a = '\xff'", "cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (None, "cannot be read: "),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_date_is_no_number() -> None:
    with pytest.raises(ConfigError, match=r"key 'leaf.size': Input should be a valid integer"):
        parse_config(Tree, GOOD | {"leaf": {"size": datetime.date(2026, 1, 1)}}, "f.toml")


def test_the_hash_of_content_is_stable() -> None:
    assert content_hash({"b": [1, 2.5], "a": "ä", "c": None}) == "2d2c4c5a6b73898c"
    assert content_hash(parse_config(Tree, GOOD, "f.toml")) == content_hash(parse_config(Tree, GOOD, "g.toml"))


@pytest.mark.parametrize(
    "other",
    [
        {"a": 2, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 1},
        {"a": 1, "b": ["x"]},
        {"a": True, "b": "x"},
        {"a": 1.5, "b": "x"},
    ],
)
def test_other_content_has_another_hash(other: dict[str, Any]) -> None:
    assert content_hash(other) != content_hash({"a": 1, "b": "x"}) == content_hash({"b": "x", "a": 1})

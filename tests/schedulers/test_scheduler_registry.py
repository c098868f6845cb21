from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ganno_bench.core import registry as core_registry
from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, UserError
from ganno_bench.schedulers import closed_form
from ganno_bench.schedulers.registry import SCHEDULERS, Reference, list_schedulers, load_scheduler, parse_reference
from ganno_bench.testing.scheduler_contract import check_scheduler
from ganno_bench.training.signals import NEEDS

PLUGIN = """
from dataclasses import dataclass
from optuna.distributions import FloatDistribution
from ganno_bench.schedulers import ClosedForm

@dataclass(frozen=True)
class HalfWay(ClosedForm):
    '''Drops once, half way.'''
    drop: float = 0.1

    @classmethod
    def search_space(cls):
        return {"drop": FloatDistribution(0.01, 0.5, log=True)}

    def factor(self, update, total):
        return 1.0 if update < total / 2 else self.drop
"""


def plugin(tmp_path: Path, old: str = "", new: str = "", name: str = "HalfWay") -> str:
    assert old in PLUGIN
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN.replace(old, new) if old else PLUGIN)
    return f"{path}:{name}"


@pytest.mark.parametrize(
    ("ref", "name", "pinned"),
    [
        ("cosine", "cosine", {}),
        ("cosine()", "cosine", {}),
        (" wsd ( warmup = 0.1, shape='linear' ) ", "wsd", {"warmup": 0.1, "shape": "linear"}),
        ("./a (b)/file.py:Name(x=-1)", "./a (b)/file.py:Name", {"x": -1}),
        ("torch:MultiStepLR(milestones=[1, 2])", "torch:MultiStepLR", {"milestones": [1, 2]}),
    ],
)
def test_references(ref: str, name: str, pinned: dict[str, object]) -> None:
    assert parse_reference(ref) == Reference(name, pinned)


@pytest.mark.parametrize("ref", ["", "(a=1)", "wsd(", "wsd)", "wsd(1)", "wsd(a=1)(b=2)", "wsd(**{'a': 1})", "wsd(a=)"])
def test_malformed_references(ref: str) -> None:
    message = f"scheduler name {ref!r} must have the form NAME or NAME(key=value, ...)"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_scheduler(ref)


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("cosin", UnknownNameError, "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        (
            "lion:Lion",
            UnknownNameError,
            "unknown scheduler 'lion:Lion': unknown prefix 'lion:'; valid: FILE.py:, curve-profile:, default:, "
            "mean-curve:, policy:, profile:, pytorch-optimizer:, random:, timm:, torch:, transformers:, untrained:, "
            "without:",
        ),
        ("default:torhc:StepLR", UnknownNameError, "unknown prefix 'torhc:'; did you mean 'torch:'?"),
        ("wsd(warmpu=0.1)", UnknownNameError, "'wsd' has no hyperparameter 'warmpu'; did you mean 'warmup'?"),
        ("constant(x=1)", UnknownNameError, "scheduler 'constant' has no hyperparameter 'x'"),
        ("cosine(base_lr=0.1)", UnknownNameError, "scheduler 'cosine' has no hyperparameter 'base_lr'"),
        ("wsd(shape=linear)", ConfigError, "the value of 'shape' must be a number, a string in quotes, True or False"),
        ("wsd(warmup=0.1, warmup=0.2)", ConfigError, "gives 'warmup' twice"),
        ("wsd(warmup='long')", ConfigError, "'warmup' must be a finite number like 0.05 (value: 'long')"),
        ("wsd(warmup=1e999)", ConfigError, "'warmup' must be a finite number like 0.05 (value: inf)"),
        ("wsd(warmup=True)", ConfigError, "'warmup' must be a finite number like 0.05 (value: True)"),
        ("step(n_drops=2.0)", ConfigError, "'n_drops' must be a whole number like 2 (value: 2.0)"),
        ("wsd(shape='square')", ConfigError, "'shape' must be one of ('linear', '1-sqrt') (value: 'square')"),
        ("./missing.py:Mine", UnknownNameError, "scheduler file 'missing.py' does not exist"),
    ],
)
def test_errors_of_references(ref: str, error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        load_scheduler(ref)


def test_an_entry_without_pinned_values() -> None:
    entry = load_scheduler("wsd")
    assert entry.name == "wsd"
    assert list(entry.search_space) == ["warmup", "cooldown", "shape"]
    assert entry.defaults() == {"warmup": 0.05, "cooldown": 0.2, "shape": "1-sqrt"}
    assert entry.build({"warmup": 0}) == entry.cls(warmup=0.0)
    assert entry.code == "revision 1"
    assert re.fullmatch("[0-9a-f]{16}", entry.tag)


def test_pinned_values_leave_the_search_space_and_join_the_name() -> None:
    entry = load_scheduler("wsd(warmup=0, shape='linear')")
    assert entry.name == "wsd(shape='linear', warmup=0.0)"
    assert list(entry.search_space) == ["cooldown"]
    assert entry.defaults() == {"cooldown": 0.2}
    assert entry.build({"cooldown": 0.3}) == entry.cls(warmup=0.0, cooldown=0.3, shape="linear")
    assert load_scheduler(entry.name).name == entry.name


def test_building_checks_the_configuration() -> None:
    entry = load_scheduler("wsd(warmup=0.1)")
    assert entry.build({"warmup": 0.1}) == entry.build({})
    with pytest.raises(ConfigError, match=r"'warmup' must be 0\.1, its pinned value \(value: 0\.2\)$"):
        entry.build({"warmup": 0.2})
    with pytest.raises(UnknownNameError, match="no hyperparameter 'cooldwn'; did you mean 'cooldown'"):
        entry.build({"cooldwn": 0.2})
    with pytest.raises(ConfigError, match="'cooldown' must be a finite number"):
        entry.build({"cooldown": None})


def test_a_file_is_a_plugin(tmp_path: Path) -> None:
    ref = plugin(tmp_path)
    entry = load_scheduler(f"{ref}(drop=0.2)")
    assert entry.name == "half-way(drop=0.2)"
    assert entry.ref == f"{ref}(drop=0.2)"
    assert load_scheduler(ref).build({"drop": 0.3}).factor(9, 10) == 0.3  # type: ignore[attr-defined]


def test_the_code_of_a_plugin_follows_its_source(tmp_path: Path) -> None:
    before = load_scheduler(plugin(tmp_path)).code
    assert load_scheduler(plugin(tmp_path)).code == before
    assert load_scheduler(plugin(tmp_path, "total / 2", "total / 3")).code != before


def test_the_code_of_a_plugin_covers_what_it_inherits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = plugin(tmp_path, "ganno_bench.schedulers import", "ganno_bench.schedulers.closed_form import Cosine as")
    assert re.fullmatch("source [0-9a-f]{16}, revision 1", before := load_scheduler(ref).code)
    monkeypatch.setattr(closed_form.Cosine, "revision", 2)
    assert load_scheduler(ref).code == before.replace("revision 1", "revision 2")


@pytest.mark.parametrize(
    ("class_name", "name"),
    [("HalfWay", "half-way"), ("REXDecay", "rex-decay"), ("My_Decay2Zero", "my-decay2-zero"), ("decay", "decay")],
)
def test_the_name_of_a_file_plugin(tmp_path: Path, class_name: str, name: str) -> None:
    assert load_scheduler(plugin(tmp_path, "HalfWay", class_name, class_name)).name == name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class HalfWay(ClosedForm)", "class HalfWay", "is not a subclass of ganno_bench.schedulers.Scheduler"),
        ("@dataclass(frozen=True)\nclass", "class", "is not a dataclass; put @dataclass(frozen=True) above the class"),
        ("@dataclass(frozen=True)", "@dataclass", "TypeError: cannot inherit non-frozen dataclass from a frozen one"),
        ("def factor", "def factro", "does not define factor"),
        ("drop: float = 0.1", "drop: float", "has no default for 'drop'; every hyperparameter needs one"),
        (
            "drop: float = 0.1",
            "drop: float = 0.1; base_lr: float = 1.0",
            "has a field 'base_lr', which the benchmark sets",
        ),
        ("drop: float = 0.1", "drop: float = 0.1; weight_decay: float = 0.0", "has a field 'weight_decay'"),
        ('{"drop":', '{"dorp":', "search_space() has 'dorp', which is not a field; did you mean 'drop'?"),
        ('{"drop":', '{"base_lr":', "search_space() has 'base_lr', which is not a field"),
        ("FloatDistribution(0.01, 0.5, log=True)", "(0.01, 0.5)", "for 'drop' (value: (0.01, 0.5))"),
        ("drop: float = 0.1", "drop: float = 0.9", "the default of 'drop' must be in its FloatDistribution"),
        ("drop: float = 0.1", "drop: str = 'x'", "the default of 'drop' must be in its FloatDistribution"),
        ("return {", "raise RuntimeError('no\\nspace'); {", "search_space() raised RuntimeError: no space"),
        (
            "    drop:",
            "    needs = frozenset({'val_los'})\n    drop:",
            "needs the unknown signal 'val_los'; did",
        ),
        (
            "    drop:",
            "    needs = frozenset({'train_loss'})\n    drop:",
            "needs 'train_loss', which every scheduler receives; leave it out of `needs`",
        ),
        ("    drop:", "    needs = 'val_loss'\n    drop:", "has a `needs` that is not a frozenset of names"),
        ("    drop:", "    interval = 0\n    drop:", "has an `interval` that is neither None nor a whole"),
        ("    def factor", "    def __post_init__(self): 1 / 0\n    def factor", "cannot be made: ZeroDivisionError"),
        ("HalfWay", "Cosine", "would be called 'cosine' in tables, which is taken (built-in); rename the class"),
        ("class", "clas", "cannot be imported: SyntaxError"),
    ],
)
def test_errors_of_plugins(tmp_path: Path, old: str, new: str, message: str) -> None:
    ref = plugin(tmp_path, old, new, "Cosine" if new == "Cosine" else "HalfWay")
    with pytest.raises(PluginError, match=re.escape(message)) as caught:
        load_scheduler(ref)
    assert "\n" not in str(caught.value)


def test_a_misspelt_class_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="has no 'Halfway'; did you mean 'HalfWay'"):
        load_scheduler(plugin(tmp_path, name="Halfway"))


def test_what_a_file_imports_is_not_suggested(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"has no 'Missing'; valid: HalfWay$"):
        load_scheduler(plugin(tmp_path, name="Missing"))


def test_something_that_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="is not a subclass of"):
        load_scheduler(plugin(tmp_path, name="dataclass"))


def entry_points(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    points = [EntryPoint(name.partition("__")[0], target, "ganno_bench.schedulers") for name, target in targets.items()]
    monkeypatch.setattr(core_registry, "entry_points", lambda group: points)


def test_an_installed_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, smooth="ganno_bench.schedulers.closed_form:Cosine")
    entry = load_scheduler("smooth(final_factor=0.1)")
    assert entry.name == "smooth(final_factor=0.1)"
    assert "smooth" in [row.name for row in list_schedulers()]


def test_a_name_taken_twice_hits_only_those_who_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, cosine="mine:Cosine", broken="mine:Broken")
    assert load_scheduler("linear").name == "linear"
    with pytest.raises(PluginError, match="scheduler 'cosine' is registered twice: by built-in and by"):
        load_scheduler("cosine")
    with pytest.raises(PluginError, match=r"'broken' .* cannot be imported: ModuleNotFoundError"):
        load_scheduler("broken")
    errors = {row.name: row.error for row in list_schedulers()}
    assert {name for name, error in errors.items() if error} == {"cosine", "broken"}


def test_the_list_describes_every_scheduler() -> None:
    rows = {row.name: row for row in list_schedulers()}
    policies = ["policy:ganno", "policy:ganno-anchored", "policy:ganno-global", "policy:ganno-light"]
    assert list(rows) == [*sorted(SCHEDULERS.entries()), *policies]
    assert rows["plateau"].needs == ("val_loss",)
    assert rows["plateau"].tuned == ("factor", "patience")
    for row in rows.values():
        assert row.error is None
        assert row.summary.endswith((".", "`."))
        assert set(row.needs) <= set(NEEDS)
        assert len(row.tuned) <= 3


def test_the_package_is_light_until_it_is_used() -> None:
    code = "import sys, ganno_bench.schedulers; assert not {'torch', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_plugin_needs_can_be_imported_from_the_package() -> None:
    import ganno_bench.schedulers as package
    from ganno_bench.training import signals

    assert package.Controls is signals.Controls
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing


@pytest.mark.parametrize(("new", "value"), [("None", "None"), ("'high'", "'high'")])
def test_a_factor_that_is_no_number_is_named(tmp_path: Path, new: str, value: str) -> None:
    ref = plugin(tmp_path, "return 1.0 if update < total / 2 else self.drop", f"return 1.0 if update < 3 else {new}")
    *_, failed = check_scheduler(ref)
    assert re.search(rf"raised TypeError: factor\(3, \d+\) must return a number \(value: {value}\)", failed.message)

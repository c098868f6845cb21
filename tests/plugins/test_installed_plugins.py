"""Plugins of an installed package: listed, run, recorded; and errors if it is broken, changed or missing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ganno_bench.core import registry
from ganno_bench.core.config import parse_config
from ganno_bench.core.errors import ConfigError, PluginError, ResumeError, UnknownNameError
from ganno_bench.core.registry import Origin
from ganno_bench.marl.config import TrainConfig
from ganno_bench.plugins.kinds import KINDS, Plugin, list_plugins
from ganno_bench.policies.policy import Policy, PolicyCard, TrainingCard, load_policy
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.workloads.suite import load_suite
from tests.helpers.installed_package import MODULE, NAMES, Package
from tests.helpers.tiny_suite import SMALL, run_tiny, write_suite

Call = Callable[..., tuple[int, str, str]]
BROKEN = {
    "scheduler": "scheduler 'unwell' (other-things 0.3) cannot be imported: ModuleNotFoundError: No module",
    "model": "has no 'Narow'; did you mean 'Narrow'?",
    "dataset": "dataset 'unwell' must be a function (found: str)",
    "observation": (
        "observation 'unwell': expected a Feature, got function; put @feature() or @run_feature() above the function"
    ),
    "reward": "reward 'unwell': expected a Reward, got function; put @reward() above the function",
}


# Lists


def test_what_works_and_what_is_broken_is_listed(package: Package, call: Call) -> None:
    code, out, _ = call("plugins")
    assert code == 0
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert header == ["kind", "name", "package", "object", "status"]
    assert {row[2] for row in rows} == {"other-things 0.3"}
    working = [row for row in rows if row[1] != "unwell"]
    assert [(row[0], row[1], row[4]) for row in working] == [(k, n, "ok") for k, n in zip(KINDS, NAMES, strict=True)]
    assert working[0][3] == "other_things:Halved"
    for row in rows:
        assert row[1] != "unwell" or BROKEN[row[0]] in row[4]


def test_one_kind_and_what_is_built_in(package: Package, call: Call) -> None:
    assert list_plugins("reward")[0] == Plugin("reward", "steady", "other-things 0.3", "other_things:steady", None)
    code, out, err = call("plugins", "--kind", "reward", "--all")
    assert (code, err) == (0, "")
    assert [line.split("\t")[1] for line in out.splitlines()[1:]] == [*KINDS["reward"].registry.entries()]
    assert "reward\tterminal\tbuilt-in\tganno_bench.marl.rewards:terminal\tok\n" in out


def test_a_broken_one_is_red_on_a_terminal(package: Package, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "150", "TERM": "xterm"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    _, out, _ = call("plugins", "--kind", "dataset")
    (red,) = [line for line in out.splitlines() if "\x1b[31m" in line]
    assert "unwell" in red
    assert "must be a function" in red


def test_where_there_are_none_the_groups_are_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    code, out, err = call("plugins", "--kind", "model")
    assert (code, out) == (0, "kind\tname\tpackage\tobject\tstatus\n")
    assert err == "no installed package has plugins (entry-point groups: ganno_bench.models)\n"


@pytest.mark.parametrize("kind", ["scheduler", "dataset", "observation", "reward"])
def test_a_broken_one_spoils_no_list(package: Package, call: Call, kind: str) -> None:
    code, out, _ = call("list", f"{kind}s")
    assert code == 0
    rows = {line.split("\t")[0]: line.split("\t") for line in out.splitlines()}
    assert BROKEN[kind] in rows["unwell"][-1]
    own = NAMES[[*KINDS].index(kind)]
    assert len(rows[own]) == len(rows["unwell"])
    assert rows[own][-1].endswith(".")


@pytest.mark.parametrize(("kind", "name"), list(zip(KINDS, NAMES, strict=True)))
def test_each_is_checked_by_name_and_from_its_file(package: Package, call: Call, kind: str, name: str) -> None:
    arguments = "(depth=2)" if kind == "model" else ""
    attribute = KINDS[kind].registry.entries()[name].target.partition(":")[2]
    in_a_file = [f"{package.file}:{attribute}"] if kind != "scheduler" else []  # whose name would be taken
    for ref in [name, *in_a_file]:
        code, out, _ = call("check", ref + arguments, "--kind", kind)
        assert code == 0, out
        assert re.search(r": (\d+) of \1 checks passed\n$", out)
    code, out, err = call("check", name[:-1] + arguments, "--kind", kind)
    assert code == 2
    assert f"did you mean {name!r}?" in err


# Runs


def suite_of(package: Package, tmp_path: Path, *edits: tuple[str, str]) -> Path:
    return write_suite(tmp_path, ('family = "mlp", depth = 1', 'family = "narrow", depth = 1'), *edits)


def test_records_say_whose_model_and_scheduler_it_was(package: Package, tmp_path: Path) -> None:
    done = run_tiny(suite_of(package, tmp_path), tmp_path / "out", schedulers=["halved"], **SMALL)
    assert done.failures == []
    provenance = done.records[0].provenance
    assert provenance.versions["other-things"] == "0.3"
    assert list(provenance.plugins) == ["model narrow", "scheduler halved"]
    assert re.fullmatch(r"other-things 0.3, code [0-9a-f]{16}", provenance.plugins["model narrow"])


def test_a_dataset_too(package: Package, tmp_path: Path) -> None:
    data = ('source = "digits"\ntask = "image-classification"\ninput = "image"\ntarget = "label"',
            'source = "moods-of-others"\ntask = "text-classification"\ninput = "text"\ntarget = "mood"')  # fmt: skip
    model = ('family = "mlp", depth = 1', 'family = "transformer", depth = 1, heads = 1')
    done = run_tiny(write_suite(tmp_path, data, model), tmp_path / "out", schedulers=["cosine"], **SMALL)
    assert list(done.records[0].provenance.plugins) == ["dataset moods-of-others"]


def test_what_is_built_in_leaves_records_as_they_were(tmp_path: Path) -> None:
    done = run_tiny(write_suite(tmp_path), tmp_path / "out", schedulers=["cosine"], **SMALL)
    assert "plugins" not in done.records[0].provenance.model_dump()
    assert "plugins" not in (tmp_path / "out" / "config.toml").read_text()


@pytest.mark.parametrize("change", ["release", "code"])
def test_a_run_does_not_go_on_with_another_model_of_the_name(package: Package, tmp_path: Path, change: str) -> None:
    suite = suite_of(package, tmp_path)
    run_tiny(suite, tmp_path / "out", schedulers=["cosine"], **SMALL)
    package.release("0.4") if change == "release" else package.write(MODULE.replace("torch.tanh", "torch.relu"))
    with pytest.raises(
        ResumeError, match=r"has plugins.model narrow = 'other-things 0.3, code \w+', not 'other-things"
    ):
        run_tiny(suite, tmp_path / "out", schedulers=["cosine"], **SMALL)


def test_a_model_in_a_file_is_known_by_its_code(package: Package, tmp_path: Path) -> None:
    ref = f"{package.file}:Narrow"
    suite = write_suite(tmp_path, ('family = "mlp"', f'family = "{ref}"'))
    done = run_tiny(suite, tmp_path / "out", schedulers=["cosine"], **SMALL)
    assert re.fullmatch(r"code [0-9a-f]{16}", done.records[0].provenance.plugins[f"model {ref}"])


def test_another_release_of_a_scheduler_is_other_code(package: Package) -> None:
    before = {name: load_scheduler(name) for name in ("halved", "cosine")}
    assert before["halved"].packages == ("other-things",)
    package.release("0.4")
    after = {name: load_scheduler(name) for name in ("halved", "cosine")}
    assert after["halved"].code != before["halved"].code
    assert after["cosine"].code == before["cosine"].code
    assert after["halved"].plugins["scheduler halved"].version == "0.4"


# What is missing


def test_a_suite_says_which_package_it_needs(package: Package, tmp_path: Path) -> None:
    def requiring(text: str) -> Path:
        return suite_of(package, tmp_path, ('name = "tiny"', f'name = "tiny"\nrequires = ["{text}"]'))

    assert load_suite(str(requiring("other-things >= 0.2"))).hash != load_suite(str(write_suite(tmp_path))).hash
    run_tiny(requiring("other-things >= 0.2"), tmp_path / "out", schedulers=["cosine"], **SMALL)
    with pytest.raises(
        PluginError, match=r"tiny.toml: key 'requires'\[0\]: 'other-things>1' is not met by the installed version 0.3"
    ):
        run_tiny(requiring("other-things>1"), tmp_path / "out", schedulers=["cosine"])
    package.uninstall()
    with pytest.raises(PluginError, match=r"'other-things' is not installed; run pip install 'other-things'$"):
        run_tiny(requiring("other-things"), tmp_path / "out", schedulers=["cosine"])
    with pytest.raises(UnknownNameError, match=r"key 'workload\[0\].model.family': unknown model 'narrow'; valid: cnn"):
        run_tiny(suite_of(package, tmp_path), tmp_path / "out", schedulers=["cosine"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "other things",
            r"key 'requires'\[0\]: must be a requirement like 'package >= 1.2': .* \(value: 'other things'\)$",
        ),
        ("x @ https://x.org", r"key 'requires'\[0\]: must be only a package and its versions"),
        ("x; python_version > '3'", r"key 'requires'\[0\]: must be only a package and its versions"),
    ],
)
def test_a_requirement_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    suite = write_suite(tmp_path, ('name = "tiny"', f'name = "tiny"\nrequires = ["{text}"]'))
    with pytest.raises(ConfigError, match=message):
        load_suite(str(suite))


# Policies


def saved_policy(folder: Path, origin: str = "other-things 0.3, code 0123") -> Path:
    training = TrainingCard(plugins={"observation loudest": origin})
    Policy(PolicyCard(name="theirs", observation=("progress", "loudest"), training=training)).save(folder)
    return folder


def test_a_policys_observation_is_part_of_its_code(package: Package, tmp_path: Path) -> None:
    folder = saved_policy(tmp_path / "policy")
    before = load_scheduler(f"policy:{folder}")
    assert before.plugins["observation loudest"].package == "other-things"
    package.write(MODULE.replace(".double()", ".double() / 2"))
    assert load_scheduler(f"policy:{folder}").code != before.code


def test_a_card_whose_package_is_missing_says_which(package: Package, tmp_path: Path) -> None:
    folder = saved_policy(tmp_path / "policy")
    package.uninstall()
    with pytest.raises(UnknownNameError) as caught:
        load_policy(folder)
    assert re.fullmatch(
        r".*card.toml: key 'observation': unknown observation 'loudest'; valid: .*; in training it came from "
        r"other-things 0.3, code 0123; pip install other-things",
        str(caught.value),
    )


def test_a_card_names_no_file(package: Package, tmp_path: Path) -> None:
    card = PolicyCard(name="theirs", observation=("progress",))
    Policy(card).save(tmp_path / "policy")
    file = tmp_path / "policy" / "card.toml"
    file.write_text(file.read_text().replace('"progress"', f'"{package.file}:loudest"'))
    package.file.write_text("raise SystemExit('run')")
    with pytest.raises(UnknownNameError, match=r"is a file; only installed observations can be used here \(entry"):
        load_policy(tmp_path / "policy")


TRAINING = """
name = "mine"
observation = ["progress", "loudest"]
reward = { steady = 1.0 }
[tasks.dataset]
moods = { source = "moods-of-others", task = "text-classification", input = "text", target = "mood" }
[[tasks.family]]
dataset = "moods"
model = { family = "narrow" }
depth = [1, 2]
width = [4]
batch_size = [4]
optimizer = ["sgd"]
"""


def test_training_names_whose_code_it_rests_on(package: Package) -> None:
    config = parse_config(TrainConfig, tomllib.loads(TRAINING), "training.toml")
    origins = config.plugins()
    assert list(origins) == ["dataset moods-of-others", "model narrow", "observation loudest", "reward steady"]
    assert {(origin.package, origin.version) for origin in origins.values()} == {("other-things", "0.3")}


def test_an_origin_in_a_line() -> None:
    assert str(Origin("ab12", "things", "1.0")) == "things 1.0, code ab12"
    assert str(Origin("ab12")) == "code ab12"
    assert str(Origin("", "things", "1.0")) == "things 1.0"

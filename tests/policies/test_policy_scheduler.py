from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ganno_bench.core.errors import ConfigError, UnknownNameError
from ganno_bench.policies.actions import REFERENCES, ActionSpec
from ganno_bench.schedulers.closed_form import Cosine
from ganno_bench.schedulers.policy import PolicyScheduler, find_policy
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler
from ganno_bench.testing.playing import play
from ganno_bench.testing.scheduler_contract import CHECKS, check_scheduler
from ganno_bench.testing.synthetic import synthetic_runs
from tests.helpers.policy_cases import ACTION_KINDS, make_policy, set_outputs

KINDS = pytest.mark.parametrize("kind", ACTION_KINDS)


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """References to a policy of each kind."""
    found = {}
    for kind, action in ACTION_KINDS.items():
        folder = tmp_path_factory.mktemp("policies") / kind
        make_policy(name=kind, action=action, interval=7).save(folder)
        found[kind] = f"policy:{folder}"
    return found


# The contract


@pytest.mark.parametrize("check", CHECKS)
@KINDS
def test_contract(refs: dict[str, str], kind: str, check: Callable[[SchedulerEntry], None]) -> None:
    check(load_scheduler(refs[kind]))


def test_the_contract_can_be_checked_by_reference(refs: dict[str, str]) -> None:
    results = check_scheduler(refs["anchored"])
    assert len(results) == 2 + len(CHECKS)  # loads, process_unchanged
    assert all(result.ok for result in results)


@KINDS
def test_these_policies_do_something(refs: dict[str, str], kind: str) -> None:
    action, runs = ACTION_KINDS[kind], synthetic_runs(61)
    lr = play(load_scheduler(refs[kind]), runs).controls[..., :-2]
    decided = range(1, 61, 7)  # not 0, where a reference may be
    factor = torch.stack([lr[at] / REFERENCES[action.reference](at / 61) for at in decided]) / runs.base_lr[:, None]
    steps = (factor[1:] / factor[:-1]).log().mul(1e6).round()
    assert len(steps.unique()) >= 3
    assert not torch.allclose(factor[:, 0], factor[:, 1])  # two runs
    assert torch.allclose(factor[..., 0], factor[..., 1]) == (action.scope == "network")  # two layers


# What it is called


@pytest.mark.parametrize("kind", ["policy", "untrained", "without:progress"])
def test_another_policy_of_a_shipped_name_is_told_apart(tmp_path: Path, kind: str) -> None:
    policy = make_policy(name="ganno")
    policy.save(tmp_path)
    assert load_scheduler(f"{kind}:{tmp_path}").name == f"{kind}:ganno@{policy.hash[:8]}"
    make_policy(name="ganno-2").save(tmp_path)
    assert load_scheduler(f"{kind}:{tmp_path}").name == f"{kind}:ganno-2"


def test_a_copy_of_a_shipped_policy_goes_by_its_name(tmp_path: Path) -> None:
    copied = shutil.copytree(find_policy("ganno"), tmp_path / "mine")
    assert load_scheduler(f"policy:{copied}").name == load_scheduler("policy:ganno").name == "policy:ganno"


# What it decides


def test_a_policy_decides_every_interval(refs: dict[str, str]) -> None:
    entry = load_scheduler(refs["categorical"])
    assert entry.cls.interval == 7
    played = play(entry, synthetic_runs(20))
    assert played.decided_at == (0, 7, 14)
    lr = played.controls[..., :-2]
    assert all(
        torch.equal(lr[first], lr[update]) for first in (0, 7, 14) for update in range(first, min(first + 7, 20))
    )
    assert played.controls[..., -2:].isnan().all()  # weight decay and momentum are left alone


def test_the_factors_of_categorical_decisions_add_up(tmp_path: Path) -> None:
    policy = make_policy(action=ActionSpec(multipliers=(0.5, 1.0, 2.0), bound=math.log(4.0)), interval=5)
    set_outputs(policy, -1.0, 0.5, 0.6).save(tmp_path)
    lr = play(load_scheduler(f"policy:{tmp_path}"), synthetic_runs(18)).controls[..., :-2]
    for update, factor in {0: 2.0, 4: 2.0, 5: 4.0, 9: 4.0, 10: 4.0, 17: 4.0}.items():
        assert lr[update].tolist() == [pytest.approx([base * factor] * 4) for base in (0.01, 0.3, 0.07)]


def test_the_steps_of_continuous_decisions_add_up(tmp_path: Path) -> None:
    policy = make_policy(action=ActionSpec(max_step=0.7, reference="linear"), interval=5)
    set_outputs(policy, -0.3, 5.0).save(tmp_path)  # the log-scale, 5, does not matter
    lr = play(load_scheduler(f"policy:{tmp_path}"), synthetic_runs(18)).controls[..., :-2]
    for update in range(18):
        factor = math.exp(0.7 * math.tanh(-0.3) * (update // 5 + 1)) * (1.0 - 0.99 * update / 18)
        assert lr[update].tolist() == [pytest.approx([base * factor] * 4) for base in (0.01, 0.3, 0.07)]


# Its entry


def test_the_entry_of_a_policy(refs: dict[str, str]) -> None:
    entry = load_scheduler(refs["network"])
    assert (entry.name, entry.ref, entry.zero_shot) == ("policy:network", refs["network"], True)
    assert (entry.pinned, entry.search_space, entry.defaults()) == ({}, {}, {})
    assert issubclass(entry.cls, PolicyScheduler)
    assert entry.cls.needs == {"grad_cosine", "grad_norm", "sampled"}
    assert re.fullmatch("revision 1, policy [0-9a-f]{16}", entry.code)


def test_a_policy_described_is_a_class_documented(tmp_path: Path) -> None:
    make_policy(description="Ours.").save(tmp_path / "with")
    make_policy().save(tmp_path / "without")
    assert load_scheduler(f"policy:{tmp_path}/with").cls.__doc__ == "Ours."
    assert load_scheduler(f"policy:{tmp_path}/without").cls.__doc__ == "The policy 'mine'."


def test_two_policies_do_not_get_in_each_others_way(refs: dict[str, str]) -> None:
    before = play(load_scheduler(refs["categorical"]), synthetic_runs(20)).controls
    other = play(load_scheduler(refs["continuous"]), synthetic_runs(20)).controls
    assert not torch.equal(other[..., :-2], before[..., :-2])
    after = play(load_scheduler(refs["categorical"]), synthetic_runs(20)).controls
    assert torch.equal(after[..., :-2], before[..., :-2])


def test_the_same_reference_twice_is_the_same_class(refs: dict[str, str]) -> None:
    assert load_scheduler(refs["anchored"]).cls is load_scheduler(refs["anchored"]).cls  # as a run demands


def test_the_code_hash_follows_the_weights(tmp_path: Path) -> None:
    for name, policy in {"a": make_policy(), "b": make_policy(1), "c": make_policy(description="Other.")}.items():
        policy.save(tmp_path / name)
    a, b, c = (load_scheduler(f"policy:{tmp_path / name}").code for name in "abc")
    assert a != b
    assert a == c


def test_the_code_hash_follows_the_card(tmp_path: Path) -> None:
    make_policy(interval=5).save(tmp_path / "a")
    make_policy(interval=6).save(tmp_path / "b")
    assert len({load_scheduler(f"policy:{tmp_path / name}").code for name in "ab"}) == 2


def test_a_policy_that_is_trained_on_is_read_anew(tmp_path: Path) -> None:
    make_policy(0).save(tmp_path)
    before = load_scheduler(f"policy:{tmp_path}")
    make_policy(1).save(tmp_path)
    after = load_scheduler(f"policy:{tmp_path}")
    assert after.code != before.code
    assert after.cls.policy.hash == make_policy(1).hash  # type: ignore[attr-defined]


def test_a_policy_does_not_take_a_schedulers_name(tmp_path: Path) -> None:
    make_policy(name="cosine").save(tmp_path)
    assert load_scheduler(f"policy:{tmp_path}").name == "policy:cosine"


def test_a_folder_may_have_parentheses(tmp_path: Path) -> None:
    make_policy().save(tmp_path / "a (b)")
    assert load_scheduler(f"policy:{tmp_path}/a (b)").name == "policy:mine"


# Where it lies


def test_a_shipped_policy_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_policy().save(tmp_path / "policies" / "shipped-for-a-test")
    monkeypatch.setattr("ganno_bench.schedulers.policy.resource_dir", lambda name: tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert find_policy("shipped-for-a-test") == tmp_path / "policies" / "shipped-for-a-test"
    assert load_scheduler("policy:shipped-for-a-test").name == "policy:mine"
    (tmp_path / "shipped-for-a-test").mkdir()
    assert find_policy("shipped-for-a-test") == Path("shipped-for-a-test")  # a folder comes first


@pytest.mark.parametrize("ref", ["/nowhere/at-all", "nobody", "../policies"])
def test_a_policy_that_is_nowhere(ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    message = f"policy {ref!r} is neither a folder nor the name of a shipped policy"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_scheduler(f"policy:{ref}")


def test_a_corrupt_policy_is_no_entry(tmp_path: Path) -> None:
    make_policy().save(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"policy.safetensors: is not a valid safetensors file"):
        load_scheduler(f"policy:{tmp_path}")


def test_a_policy_has_no_hyperparameters(refs: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"anchored\(bound=1.0\)' is neither a folder nor the name"):
        load_scheduler(f"{refs['anchored']}(bound=1.0)")


# Schedulers as they are


def test_a_scheduler_at_its_defaults() -> None:
    entry, tuned = load_scheduler("default:cosine"), load_scheduler("cosine")
    assert (entry.name, entry.ref, entry.zero_shot) == ("cosine@default", "default:cosine", True)
    assert (tuned.name, tuned.zero_shot) == ("cosine", False)
    assert (entry.search_space, entry.defaults()) == ({}, {})
    assert tuned.search_space
    assert (entry.cls, entry.code) == (tuned.cls, tuned.code)
    assert entry.build({}) == Cosine()


def test_pinned_values_come_before_the_default() -> None:
    entry = load_scheduler("default:wsd(warmup=0.1)")
    assert (entry.name, entry.zero_shot, entry.search_space) == ("wsd(warmup=0.1)@default", True, {})
    assert entry.build({}) == entry.cls(warmup=0.1)  # type: ignore[call-arg]


def test_a_policy_is_called_the_same_at_its_defaults(refs: dict[str, str]) -> None:
    entry = load_scheduler(f"default:{refs['anchored']}")
    assert (entry.name, entry.zero_shot) == ("policy:anchored", True)
    assert entry.cls is load_scheduler(refs["anchored"]).cls


def test_an_unknown_scheduler_at_its_defaults() -> None:
    with pytest.raises(UnknownNameError, match="unknown scheduler 'cosin'; did you mean 'cosine'"):
        load_scheduler("default:cosin")


@pytest.mark.parametrize("check", CHECKS)
def test_contract_at_the_defaults(check: Callable[[SchedulerEntry], None]) -> None:
    check(load_scheduler("default:wsd"))

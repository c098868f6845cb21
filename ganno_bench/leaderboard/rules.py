"""The rules of submissions: all seeds, the suite's budget and data, and the best trial as the reported one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ganno_bench.baselines.checks import Expected, check_runs, check_study
from ganno_bench.baselines.files import place
from ganno_bench.core.records import RunRecord, significant
from ganno_bench.core.studies import StudyRecord
from ganno_bench.leaderboard.known import KnownSuite
from ganno_bench.leaderboard.plausible import record_faults
from ganno_bench.leaderboard.search_spaces import config_faults, space_faults
from ganno_bench.leaderboard.submissions import RECORDS, STUDIES, TOML, Submission, Submitted
from ganno_bench.schedulers.controls import CONTROLS
from ganno_bench.schedulers.registry import SCHEDULERS, load_scheduler
from ganno_bench.schedulers.shipped import shipped_policies
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.workloads.suite import WorkloadSpec

__all__ = ["derived", "rule_faults"]

_Fault = tuple[str, str]
"""(file, fault)."""
_Key = tuple[str, int]
"""(workload, study)."""


def rule_faults(submitted: Submitted, known: KnownSuite) -> Iterator[_Fault]:
    """Yield the rules that a well-formed submission breaks, as (file, fault)."""
    info = submitted.info
    if info.suite_hash != known.suite.hash:
        right = f"must be {known.suite.hash}, the hash of suite {info.suite!r}"
        yield TOML, f"key 'suite_hash': {right} (value: {info.suite_hash!r})"
        return
    for what in _info_faults(info, known):
        yield TOML, what
    possible = True
    for number, record in enumerate(submitted.records, 1):
        for what in (*record_faults(record, known), *_belongs(record, info, known)):
            possible = False
            yield f"{RECORDS}:{number}", what
    for number, study in enumerate(submitted.studies, 1):
        for what in _study_faults(study, info, known):
            possible = False
            yield f"{STUDIES}:{number}", what
    if not possible:  # the other rules need valid records and studies
        return
    yield from _group_faults(submitted, known)
    yield from _data_faults(submitted.records, known)
    for key, right in derived(submitted.records, submitted.studies, known).items():
        if (there := _get(info, key)) != right:
            yield TOML, f"key {key!r}: must be {right!r}, as in the records (value: {there!r})"
    least = sum(record.cost.wall_seconds for record in submitted.records)
    if info.cost.wall_seconds < least - 0.01:
        yield (
            TOML,
            f"key 'cost.wall_seconds': must be at least {least:.2f}, the sum of the records "
            f"(value: {info.cost.wall_seconds!r})",
        )


def derived(records: Sequence[RunRecord], studies: Sequence[StudyRecord], known: KnownSuite) -> dict[str, Any]:
    """Return the values in `submission.toml` that follow from records and studies, by key."""
    versions: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for package, version in record.provenance.versions.items():
            versions[package].add(version)
    tuned = [(known.workloads[s.workload].n_updates, sum(len(t.values) for t in s.trials)) for s in studies]
    return {
        "cost.updates": sum(record.cost.updates for record in records),
        "cost.tuning_updates": sum(n_updates * n_runs for n_updates, n_runs in tuned),
        "date": max((record.provenance.timestamp for record in records), default="")[:10],
        "versions": {package: "/".join(sorted(found)) for package, found in sorted(versions.items())},
    }


def _info_faults(info: Submission, known: KnownSuite) -> Iterator[str]:
    if info.name in known.entries:
        yield f"key 'name': a committed baseline of the suite has this name; choose another (value: {info.name!r})"
    if len(set(info.studies)) < len(info.studies):
        yield f"key 'studies': must have no duplicates (value: {list(info.studies)})"
    if info.ruleset == "zero-shot" and info.studies != (0,):
        yield f"key 'studies': must be [0], because a zero-shot entry is not tuned (value: {list(info.studies)})"
    if info.ruleset == "tuned" and info.open_optimizer:
        yield f"key 'open_optimizer': must be empty unless the entry is zero-shot (value: {info.open_optimizer!r})"
    yield from _code_faults(info)
    if strange := sorted(info.open_optimizer.keys() - known.optimizers):
        yield f"key 'open_optimizer': no workload has the optimizer {strange[0]!r}"
    wanted = known.optimizers if info.ruleset == "tuned" else frozenset()
    if info.search_space.keys() != wanted:
        yield f"key 'search_space': must be for optimizers {sorted(wanted)} (value: {sorted(info.search_space)})"
        return
    for optimizer, space in info.search_space.items():
        for name, what in space_faults(space, optimizer):
            yield f"key 'search_space.{optimizer}.{name}': {what}"
    own = [
        {name: there for name, there in space.items() if name not in ("base_lr", "weight_decay")}
        for space in info.search_space.values()
    ]
    if any(space != own[0] for space in own):
        yield "key 'search_space': the scheduler's own hyperparameters must be the same for all optimizers"
    is_policy = info.scheduler.startswith("policy:")
    if is_policy != (info.policy is not None):
        what = "the card of the policy is missing" if is_policy else "the entry is not a policy; remove the card"
        yield f"key 'policy': {what}"
    elif info.policy is not None and not re.fullmatch(
        rf"policy:{re.escape(info.policy.name)}(@[0-9a-f]{{8}})?", info.scheduler
    ):
        yield f"key 'policy.name': must be the name in {info.scheduler!r} (value: {info.policy.name!r})"


def _code_faults(info: Submission) -> Iterator[str]:
    """Check that an entry with the name of a built-in scheduler or shipped policy ran its current revision.

    If the code includes the version of a library, another version may be installed here.
    """
    current = _built_in_code(info.scheduler.removesuffix("@default").partition("(")[0])
    if current is None:
        return
    parts = info.code.split(", ")
    for part in current.split(", "):
        if part.startswith(("revision ", "policy ")) and part not in parts:
            yield f"key 'code': must have {part}, the current code of {info.scheduler!r} (value: {info.code!r})"


def _built_in_code(name: str) -> str | None:
    """Return the code of a built-in scheduler or shipped policy; None for other names, which are never loaded."""
    entry = SCHEDULERS.entries().get(name)
    kind, _, policy = name.partition(":")
    kinds = {"policy", *CONTROLS} - {"without"}  # `without:POLICY` lacks a feature
    shipped = policy in shipped_policies() and kind in kinds
    built_in = entry is not None and entry.source == "built-in"
    return load_scheduler(name).code if built_in or shipped else None


def _belongs(record: RunRecord, info: Submission, known: KnownSuite) -> Iterator[str]:
    """Check a single record against `submission.toml` and the suite."""
    spec = known.workloads.get(record.workload)
    if spec is None or record.role == "tuning":
        return
    if record.study not in info.studies:
        yield f"key 'study': must be one of {list(info.studies)} (value: {record.study!r})"
    reference = known.baselines.reference.get(spec.id)
    if reference is not None and record.dataset_fingerprint != reference.fingerprint:
        yield (
            f"key 'dataset_fingerprint': must be {reference.fingerprint!r}, as in the committed reference "
            f"(value: {record.dataset_fingerprint!r})"
        )
    replaced = info.open_optimizer.get(spec.optimizer.name)
    if record.open_optimizer != replaced:
        yield f"key 'open_optimizer': must be {replaced!r}, as in {TOML} (value: {record.open_optimizer!r})"
    budget = known.suite.budget
    tuning_updates = 0 if info.ruleset == "zero-shot" else budget.trials * budget.tuning_seeds * spec.n_updates
    if record.cost.tuning_updates != tuning_updates:
        yield f"key 'cost.tuning_updates': must be {tuning_updates} (value: {record.cost.tuning_updates!r})"
    for name in ("base_lr", "weight_decay"):
        value = record.config.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            yield f"key 'config.{name}': must be a number of at least 0 (value: {value!r})"


def _study_faults(study: StudyRecord, info: Submission, known: KnownSuite) -> Iterator[str]:
    """Check the configurations and values of a study."""
    if (study.suite, study.suite_hash) != (info.suite, known.suite.hash):
        right = f"{info.suite}@{known.suite.hash}"
        yield f"key 'suite_hash': must be {right} (value: {f'{study.suite}@{study.suite_hash}'!r})"
        return
    spec = known.workloads.get(study.workload)
    if spec is None:
        yield f"key 'workload': must be a submitted workload of suite {info.suite!r} (value: {study.workload!r})"
        return
    if study.study not in info.studies:
        yield f"key 'study': must be one of {list(info.studies)} (value: {study.study!r})"
    space = info.search_space.get(spec.optimizer.name, {})
    for index, trial in enumerate(study.trials):
        for name, what in config_faults(trial.config, space):
            yield f"key 'trials[{index}].config.{name}': {what}"
        if index == 0 and trial.config != (default := {name: there.default for name, there in space.items()}):
            yield f"key 'trials[0].config': must be the default, which is tried first: {default!r}"
        for value in trial.values:
            if value < 0:
                yield f"key 'trials[{index}].values': must have losses of at least 0 (value: {value!r})"


def _group_faults(submitted: Submitted, known: KnownSuite) -> Iterator[_Fault]:
    """Check the runs of each workload and study against its tuning study."""
    runs: dict[_Key, list[RunRecord]] = defaultdict(list)
    studies: dict[_Key, list[StudyRecord]] = defaultdict(list)
    for record in sorted(submitted.records, key=place):
        runs[record.workload, record.study].append(record)
    for study in submitted.studies:
        studies[study.workload, study.study].append(study)
    info, budget = submitted.info, known.suite.budget
    for key in [(workload, study) for workload in known.workloads for study in info.studies]:
        name, own = f"{key[0]}, study {key[1]}", studies[key]
        if not runs[key]:
            yield RECORDS, f"{name}: has no records of seeds 0 to {budget.report_seeds - 1}"
            continue
        expected = _expected(info, known, known.workloads[key[0]], runs[key], own)
        for what in check_runs(expected, runs[key], known.suite.variation):
            yield RECORDS, f"{name}: {what}"
        for what in check_study(expected, own):
            yield STUDIES, f"{name}: {what}"
        for what in _twin_faults(runs[key], own):
            yield RECORDS, f"{name}: {what}"
        chance = runs[key][0].chance_loss
        if worst := [value for study in own for trial in study.trials for value in trial.values if value > chance]:
            what = f"must have losses of at most {chance!r}, the loss of chance"
            yield STUDIES, f"{name}: key 'trials': {what} (value: {worst[0]!r})"


def _twin_faults(runs: Sequence[RunRecord], studies: Sequence[StudyRecord]) -> Iterator[str]:
    """Check that no run is a copy of another: two seeds give equal losses only at chance and at 0."""
    winners = {value for study in studies for value in study.trials[study.winner].values}
    seen: dict[tuple[str, float | None, float | None], int] = {}
    for r in runs:
        loss = r.metrics.val_loss
        if loss is None or not 0 < loss < r.chance_loss:
            continue
        if r.role == "report" and loss in winners:
            yield f"seed {r.seed}: key 'metrics.val_loss': equals that of a run of the best trial (value: {loss!r})"
        key = (r.factor or "", r.multiple, loss)
        if (other := seen.setdefault(key, r.seed)) != r.seed:
            yield f"seed {r.seed}: key 'metrics.val_loss': equals that of seed {other} (value: {loss!r})"


def _expected(
    info: Submission, known: KnownSuite, spec: WorkloadSpec, runs: Sequence[RunRecord], studies: Sequence[StudyRecord]
) -> Expected:
    some, budget = runs[0], known.suite.budget
    tuned = info.ruleset == "tuned"
    winner, config, val_loss = some.trial, some.config, None
    if tuned and studies:
        winner = studies[0].winner
        config, val_loss = studies[0].trials[winner].config, studies[0].trials[winner].objective
    elif not tuned:
        winner, config = 0, _frozen(info, spec, some)
    return Expected(
        suite=info.suite,
        dataset_fingerprint=some.dataset_fingerprint,
        scheduler=info.scheduler,
        code=info.code,
        ruleset=info.ruleset,
        winner=winner,
        config=config,
        report_seeds=budget.report_seeds,
        trials=budget.trials if tuned else 0,
        tuning_seeds=budget.tuning_seeds if tuned else 0,
        val_loss=val_loss,
        source=f"{TOML} and {STUDIES}" if tuned else f"{TOML} and the rules for zero-shot entries",
    )


def _frozen(info: Submission, spec: WorkloadSpec, some: RunRecord) -> dict[str, float | int | str | bool]:
    """Return the configuration of a zero-shot entry: the optimizer's defaults.

    An open optimizer has a learning rate of its own.
    """
    defaults = OPTIMIZERS[spec.optimizer.name]
    base_lr = some.config["base_lr"] if spec.optimizer.name in info.open_optimizer else defaults.base_lr
    return {"base_lr": base_lr, "weight_decay": defaults.weight_decay}


def _data_faults(records: Sequence[RunRecord], known: KnownSuite) -> Iterator[_Fault]:
    """Check values that must be equal on workloads with the same dataset or optimizer."""
    for key, group in (("dataset_fingerprint", "dataset"), ("chance_loss", "dataset"), ("base_lr", "optimizer")):
        first: dict[str, RunRecord] = {}
        for record in records:
            spec = known.workloads[record.workload]
            if key == "base_lr" and (record.role != "report" or record.open_optimizer is None):
                continue
            other = first.setdefault(spec.dataset if group == "dataset" else spec.optimizer.name, record)
            here, there = (_value(one, key) for one in (record, other))
            if here != there:
                yield (
                    RECORDS,
                    (
                        f"key {key!r}: must be equal on workloads {other.workload!r} and {record.workload!r}, which "
                        f"have the same {group} (value: {there!r}, {here!r})"
                    ),
                )
                break


def _value(record: RunRecord, key: str) -> object:
    if key == "chance_loss":
        return significant(record.chance_loss)  # its last bits depend on the machine
    return record.config[key] if key == "base_lr" else getattr(record, key)


def _get(info: Submission, key: str) -> object:
    value: object = info
    for part in key.split("."):
        value = getattr(value, part)
    return value

"""`ganno-bench list` and `ganno-bench show`: suites, workloads, schedulers, datasets, and parts of policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganno_bench.cli.console import print_table

if TYPE_CHECKING:
    from ganno_bench.workloads.suite import DatasetSpec, WorkloadSpec

__all__ = ["list_", "show"]


class Kind(StrEnum):
    """Kinds of things that can be listed."""

    suites = "suites"
    workloads = "workloads"
    schedulers = "schedulers"
    datasets = "datasets"
    environments = "environments"
    observations = "observations"
    actions = "actions"
    rewards = "rewards"


_OTHER_SCHEDULERS = """
Other names of schedulers:
  ./FILE.py:CLASS               a class in a file
  torch:CLASS, timm:CLASS, transformers:NAME, pytorch-optimizer:CLASS
                                a scheduler of a library
  policy:FOLDER                 a trained policy
  untrained:POLICY, random:POLICY, ...
                                control entries: a policy with a part replaced
  NAME(KEY=VALUE)               a scheduler with a pinned hyperparameter
  default:NAME                  a scheduler with default values, not tuned"""


def list_(
    kind: Annotated[Kind, typer.Argument(help=f"One of: {', '.join(Kind)}.", metavar="KIND")],
) -> None:
    """List the names that you can use on the command line and in suites."""
    header, rows = {
        Kind.suites: _suites,
        Kind.workloads: _workloads,
        Kind.schedulers: _schedulers,
        Kind.datasets: _datasets,
        Kind.environments: _environments,
        Kind.observations: _observations,
        Kind.actions: _actions,
        Kind.rewards: _rewards,
    }[kind]()
    print_table(header, rows)
    if kind is Kind.schedulers:
        typer.echo(_OTHER_SCHEDULERS, err=True)


def show(
    name: Annotated[str, typer.Argument(help="Name of a suite, workload, scheduler or dataset.", metavar="NAME")],
) -> None:
    """Show a suite, workload, scheduler or dataset in full.

    Several suites can have a workload of one name, with different settings. SUITE/WORKLOAD names one of them.
    """
    from ganno_bench.core.errors import UnknownNameError, did_you_mean
    from ganno_bench.schedulers.registry import SCHEDULERS
    from ganno_bench.schedulers.shipped import shipped_policies
    from ganno_bench.workloads.embedded import EMBEDDED
    from ganno_bench.workloads.suite import find_suite, load_suite, suite_names

    if name in suite_names() or name.endswith(".toml"):
        typer.echo(find_suite(name).read_text(encoding="utf-8").rstrip())
        typer.echo(f"\n# hash {load_suite(name).hash}, file {find_suite(name)}")
        return
    workloads = [(suite, spec) for suite in map(load_suite, suite_names()) for spec in suite.workload]
    named = [(suite, spec) for suite, spec in workloads if name in (spec.id, f"{suite.name}/{spec.id}")]
    for index, (suite, workload) in enumerate(named):
        if index:
            typer.echo()
        _print_fields({"suite": suite.name, **workload.model_dump(mode="json")})
        _print_fields({f"dataset {workload.dataset}": _given(suite.dataset[workload.dataset])})
        _print_fields({"backend": _backend(workload, suite.dataset[workload.dataset])})
    if named:
        return
    if name.partition("(")[0] in SCHEDULERS.entries() or ":" in name:
        _show_scheduler(name)
        return
    datasets = {row[0]: row for row in _datasets()[1]}
    if name in datasets:
        _print_fields(dict(zip(_datasets()[0], datasets[name], strict=True)))
        return
    policies = [f"policy:{policy}" for policy in shipped_policies()]
    known = {*suite_names(), *(spec.id for _, spec in workloads), *SCHEDULERS.entries(), *policies, *EMBEDDED.entries()}
    hint = did_you_mean(name, known)
    if name in shipped_policies():
        hint = f"; did you mean 'policy:{name}'?"
    elif "did you mean" not in hint:
        hint = "; for valid names: ganno-bench list suites, workloads, schedulers or datasets"
    raise UnknownNameError(f"unknown name {name!r}{hint}")


Table = tuple[list[str], list[list[str]]]


def _suites() -> Table:
    from ganno_bench.workloads.suite import load_suite, suite_names

    suites = [load_suite(name) for name in suite_names()]
    rows = [
        [s.name, str(len(s.workload)), str(s.budget.trials), str(s.budget.report_seeds), s.hash, s.description]
        for s in suites
    ]
    return ["suite", "workloads", "trials", "seeds", "hash", "description"], rows


def _workloads() -> Table:
    from ganno_bench.workloads.suite import load_suite, suite_names

    rows = []
    for suite in map(load_suite, suite_names()):
        for w in suite.workload:
            model = ", ".join(f"{key} {value}" for key, value in w.model.items() if key != "family")
            rows.append(
                [w.id, suite.name, w.dataset, f"{w.model['family']} ({model})", w.optimizer.name, str(w.n_updates)]
            )
    return ["workload", "suite", "dataset", "model", "optimizer", "updates"], rows


def _schedulers() -> Table:
    from ganno_bench.schedulers.registry import list_schedulers

    rows = [
        [row.name, row.source, ", ".join(row.tuned) or "-", ", ".join(row.needs) or "-", row.error or row.summary]
        for row in list_schedulers()
    ]
    return ["scheduler", "source", "tuned in addition to base_lr, weight_decay", "needs", "description"], rows


def _datasets() -> Table:
    from ganno_bench.workloads.datasets import list_datasets

    return ["dataset", "where", "description"], [list(row) for row in list_datasets()]


def _environments() -> Table:
    from ganno_bench.workloads.suite import load_suite, suite_names

    rows = [
        [f"{suite.name}/{w.id}", w.model["family"], str(w.model.get("depth", "-")), w.optimizer.name, str(w.n_updates)]
        for suite in map(load_suite, suite_names())
        for w in suite.workload
    ]
    return ["environment (ganno_bench.marl.make_env)", "model", "depth", "optimizer", "updates"], rows


def _observations() -> Table:
    from ganno_bench.policies.observations import OBSERVATIONS, load_feature

    def row(name: str) -> list[str]:
        feature = load_feature(name)
        return [", ".join(sorted(feature.needs)) or "-", feature.summary]

    return _described(["observation", "needs", "description"], OBSERVATIONS.entries(), row)


def _actions() -> Table:
    from ganno_bench.policies.actions import ACTIONS

    rows = [
        [
            name,
            f"[-1, 1], at most e^{spec.max_step:g}"
            if spec.continuous
            else "x " + ", ".join(map(str, spec.multipliers)),
            spec.reference,
            f"e^+-{spec.bound:g}",
        ]
        for name, spec in ACTIONS.items()
    ]
    return ["action", "a decision", "reference schedule", "bound"], rows


def _rewards() -> Table:
    from ganno_bench.marl.rewards import REWARDS, load_reward

    def row(name: str) -> list[str]:
        reward = load_reward(name)
        whose = "each agent" if reward.per_agent else "all agents"
        return [whose, ", ".join(sorted(reward.needs)) or "-", reward.summary]

    return _described(["reward", "of", "needs", "description"], REWARDS.entries(), row)


def _described(header: list[str], names: Iterable[str], row: Callable[[str], list[str]]) -> Table:
    """Return a row for each name; the row of a broken plugin has the error as its description."""
    from ganno_bench.core.errors import PluginError

    rows: list[list[str]] = []
    for name in names:
        try:
            rows.append([name, *row(name)])
        except PluginError as broken:
            rows.append([name, *["-"] * (len(header) - 2), str(broken)])
    return header, rows


def _show_scheduler(ref: str) -> None:
    import inspect

    from ganno_bench.schedulers.registry import load_scheduler

    entry = load_scheduler(ref)
    replaced = {
        f"replaces {name}": f"{entry.open_optimizer(name)}, base_lr {by.base_lr:g} (open-optimizer)"
        for name, by in entry.replaces.items()
    }
    untuned = "base_lr and weight_decay are the optimizer's defaults"
    if replaced:
        untuned = "weight_decay is the default of the replaced optimizer"
    typer.echo(inspect.getdoc(entry.cls) or "")
    typer.echo("")
    defaults = entry.defaults()
    _print_fields(
        {
            "name": entry.name,
            "ref": entry.ref,
            "code": entry.code,
            "needs": ", ".join(sorted(entry.cls.needs)) or "only the update's index and the losses",
            **replaced,
            "tuned": f"nothing; {untuned}"
            if entry.zero_shot
            else "base_lr, weight_decay (range fixed by the workload's optimizer)",
            **{f"  {name}": f"{space} (default {defaults[name]})" for name, space in entry.search_space.items()},
        }
    )


def _backend(workload: WorkloadSpec, dataset: DatasetSpec) -> str:
    """Return which backend `auto` takes, if that can be known without a download."""
    from ganno_bench.core.errors import GannoBenchError
    from ganno_bench.training.prepare import rule
    from ganno_bench.workloads.datasets import load_dataset
    from ganno_bench.workloads.sources import data_directories, is_here
    from ganno_bench.workloads.workload import Workload

    try:
        if not is_here(dataset):
            return "known with the data, in a folder that the variable GANNO_BENCH_DATA names"
        return rule(Workload(workload, load_dataset(workload.dataset, dataset, data_directories())))
    except GannoBenchError as error:
        return f"unknown: {error}"


def _given(spec: Any) -> dict[str, Any]:
    fields: dict[str, Any] = spec.model_dump(mode="json", exclude_none=True)
    return fields


def _print_fields(fields: dict[str, Any]) -> None:
    width = max(len(name) for name in fields) + 2
    for name, value in fields.items():
        text = ", ".join(f"{k} = {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        typer.echo(f"{name:<{width}}{text}")

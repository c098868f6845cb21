"""The contract of schedulers: for each check, a scheduler that fails only it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import optuna
import pytest
import torch

from ganno_bench.core.errors import ConfigError, UnknownNameError
from ganno_bench.testing.scheduler_contract import CHECKS, ContractError, SchedulerContract, check_scheduler

NAMES = ["loads", *(check.__name__.removeprefix("check_") for check in CHECKS), "process_unchanged"]

FACTOR = "self.share ** (1.0 / (1.0 + loss[:, None]))"
GOOD = """
import random
from dataclasses import dataclass
from typing import ClassVar
import torch
from optuna.distributions import FloatDistribution
from ganno_bench.schedulers import ClosedForm, Controls, Scheduler

@dataclass(frozen=True)
class Mine(Scheduler):
    '''Lowers the learning rate every 7 updates, the more so the lower the validation loss.'''
    needs: ClassVar = frozenset({'val_loss'})
    interval: ClassVar = 7
    share: float = 0.5

    @classmethod
    def search_space(cls):
        return {"share": FloatDistribution(0.1, 0.9)}

    def init(self, run): return {'lr': run.base_lr[:, None].repeat(1, run.n_layers), 'n': 0}

    def step(self, state, signals):
        lr = state['lr']
        loss = signals.val_loss
        lr = lr * FACTOR
        return Controls(lr), {'lr': lr, 'n': state['n'] + 1}
""".replace("FACTOR", FACTOR)


def scheduler(tmp_path: Path, edits: dict[str, str]) -> str:
    source = GOOD
    for old, new in edits.items():
        assert GOOD.count(old) == 1
        source = source.replace(old, new)
    path = tmp_path / "mine.py"
    path.write_text(source)
    return f"{path}:Mine"


def test_the_good_one_passes_every_check(tmp_path: Path) -> None:
    results = check_scheduler(scheduler(tmp_path, {}))
    assert [result.name for result in results] == NAMES
    assert [result.message for result in results if not result.ok] == []


def test_so_does_an_open_optimizer(tmp_path: Path) -> None:
    assert [result.message for result in check_scheduler(scheduler(tmp_path, OPEN)) if not result.ok] == []


def returning(controls: str) -> dict[str, str]:
    return {"Controls(lr)": controls}


def computing(lr: str) -> dict[str, str]:
    return {"lr = lr * FACTOR": f"lr = {lr}"}


# The check that fails, the edit of the good scheduler, and the message.
OPEN = {
    "import ClosedForm,": "import OpenOptimizer, OptimizerEntry, Released, ClosedForm,",
    "class Mine(Scheduler)": "class Mine(OptimizerEntry)",
    "interval: ClassVar = 7": "replaces: ClassVar = {'sgd': Released('SGD', 0.1)}",
    "    def init(self, run): return {'lr': run.base_lr[:, None].repeat(1, run.n_layers), 'n': 0}": """
    def optimizer(self, parameters, weight_decay, spec):
        return Run(torch.optim.SGD(parameters, weight_decay=weight_decay))
class Run(OpenOptimizer):
    pass
class Other:""",
}
"""Edits that turn the good scheduler into an open optimizer."""


def open_run(methods: str) -> dict[str, str]:
    return {old: new.replace("    pass\n", methods) for old, new in OPEN.items()}


IMPORTING = "mine.py': importing it changed PyTorch's default dtype from torch.float32 to torch.float64"
THREADS = ":Mine': loading it changed PyTorch's number of threads from 1 to 7"
BROKEN: list[tuple[str, dict[str, str], str]] = [
    ("loads", {"share: float = 0.5": "share: float = 0.95"}, "default of 'share' must be in its Float"),
    ("loads", {"@dataclass(frozen=True)": ""}, "is not a dataclass"),
    ("learning_rates", returning("Controls(-lr)"), "update 0, run 0: expected a finite learning rate >= 0, got -"),
    ("learning_rates", returning("Controls(lr / 0)"), "update 0, run 0: .* >= 0, got inf for layer 0"),
    ("learning_rates", returning("Controls(lr * signals.train_loss[:, None])"), "update 0, run 0: .* got nan"),
    ("learning_rates", returning("Controls(lr.float())"), "update 0: expected float64 .* got float32 of shape"),
    ("learning_rates", returning("Controls(lr[:, 0])"), r"of shape \(3, 4\) or \(n, 3, 4\), got .* of shape \(3,\)"),
    ("learning_rates", returning("Controls(lr[None][:0])"), r"got float64 of shape \(0, 3, 4\)"),
    ("learning_rates", returning("lr"), "update 0: expected Controls with a tensor `lr`, got Tensor"),
    ("learning_rates", returning("Controls(lr, momentum=lr[:, 0] + 1)"), r"run 0: expected momentum in \[0, 1.0\)"),
    (
        "learning_rates",
        returning("Controls(lr, weight_decay=lr)"),
        r"expected weight_decay float64 of shape \(3,\), got",
    ),
    ("learning_rates", returning("Controls(lr, weight_decay=lr[:, 0].float())"), r"got float32 of shape \(3,\)"),
    ("learning_rates", returning("Controls(lr, momentum=0.5)"), r"momentum float64 of shape \(3,\), got a float"),
    ("learning_rates", returning("Controls((lr * 9).long())"), "update 0: expected float64 .* got int64 of shape"),
    ("learning_rates", returning("Controls(lr > 0)"), "update 0: expected float64 .* got bool of shape"),
    ("learning_rates", returning("Controls(lr + 0j)"), "update 0: expected float64 .* got complex128 of shape"),
    ("learning_rates", returning("Controls(lr.to('meta'))"), "got float64 of shape .* on meta instead of cpu"),
    ("learning_rates", returning("Controls(lr.to_sparse())"), "got float64 sparse_coo of shape"),
    ("learning_rates", computing("exit(0)"), "update 0: raised SystemExit: 0"),
    ("learning_rates", computing("1 / 0"), "update 0: raised ZeroDivisionError: division by zero"),
    (
        "learning_rates",
        {"def init(self, run): return": "def init(self, run): 1 / 0; return"},
        "init: raised ZeroDivision",
    ),
    (
        "learning_rates",
        {", {'lr': lr, 'n': state['n'] + 1}": ""},
        r"step must return \(Controls, state\), but returned Controls",
    ),
    ("block_length", returning("Controls(lr.repeat(6, 1, 1))"), "update 0: expected a block of 7 updates .*, got 6"),
    ("block_length", returning("Controls(lr.repeat(7, 1, 1))"), "update 56: expected a block of 5 updates .*, got 7"),
    ("block_length", {"interval: ClassVar = 7": "interval: ClassVar = None"}, r"a block \(n, P, L\) .* shape \(3, 4\)"),
    (
        "deterministic",
        computing("lr * random.Random().uniform(0.9, 1.0)"),
        "update 0, run 0: .* as the first time, got",
    ),
    (
        "resumable",
        {"lr = lr * FACTOR": "object.__setattr__(self, 'n', getattr(self, 'n', 0) + 1); lr = lr / self.n"},
        "update 7, run 0: expected learning rate of layer 0 .* as without saving and resuming, got",
    ),
    (
        "resumable",
        {"'n': 0": "'n': 0, 'self': self"},
        "update 0: expected a state of tensors and plain",
    ),
    (
        "short_horizons",
        computing("lr * (1 / (signals.total_updates - 1) if self.share == 0.5 else 1)"),
        "horizon 1: update 0: raised ZeroDivisionError",
    ),
    (
        "short_horizons",
        computing("lr / (signals.total_updates - 2 if self.share == 0.5 else 1)"),
        "horizon 1: update 0, run 0: expected a finite",
    ),
    (
        "divergence",
        computing("lr * FACTOR * (0.5 if signals.diverged.any() else 1.0)"),
        "update 7, run 0: .* as if run 1 had not diverged, got",
    ),
    ("divergence", computing("lr * FACTOR; assert lr.isfinite().all(), 'NaN'"), "update 7: raised AssertionError: NaN"),
    ("inputs_unchanged", {"lr = state['lr']": "lr = state['lr'].mul_(0.9)"}, r"update 0: step changed state\['lr'\]"),
    ("inputs_unchanged", {"loss = signals.val_loss": "loss = signals.val_loss.mul_(2)"}, "changed signals.val_loss: "),
    ("inputs_unchanged", {"loss = ": "state['new'] = 1; loss = "}, "step changed state: expected 2 entries, got 3"),
    (
        "inputs_unchanged",
        {"def init(self, run): return": "def init(self, run): run.weight_decay.add_(1); return"},
        "init: init changed run.weight_decay: expected",
    ),
    ("needs", {"frozenset({'val_loss'})": "frozenset()"}, r"with needs = \[\] .* None: update 0: raised TypeError"),
    (
        "needs",
        computing("lr * FACTOR * (1.0 if signals.grad_norm is None else 0.5)"),
        "update 0, run 0: expected learning rate .* as with all signals, got",
    ),
    ("independent_runs", computing("lr.mean(0, keepdim=True).repeat(len(lr), 1) * self.share"), "for runs .*, got"),
    ("independent_runs", computing("lr * FACTOR * torch.arange(1, len(lr) + 1)[:, None]"), r"for runs \[2, 0, 1\] as"),
    ("independent_runs", computing("lr * FACTOR / len(lr)"), r"run 0: .* for runs \[0\] as for the same ones"),
    (
        "search_space",
        computing("lr * FACTOR * (1 if self.share < 0.8 else -1)"),
        r"\{'share': 0.8.*\}, horizon 61: update 0, run 0: expected a finite",
    ),
    (
        "search_space",
        computing("lr * FACTOR * (1 / (signals.total_updates - 1) if self.share != 0.5 else 1)"),
        r"\{'share': .*\}, horizon 1: update 0: raised ZeroDivisionError",
    ),
    (
        "search_space",
        {
            "interval: ClassVar = 7": "interval: ClassVar = None",
            "loss = ": "n = min(int(9 * self.share), signals.total_updates - signals.n_updates); loss = ",
            "Controls(lr)": "Controls(lr.repeat(n, 1, 1))",
        },
        r"\{'share': .*\}: expected decisions after \(0, .*\) updates, got \(0,",
    ),
    (
        "scale",
        {
            "class Mine(Scheduler)": "class Mine(ClosedForm)",
            "    def step": """
    def factor(self, update, total): return 1.0
    def init(self, run): return super().init(run).clamp(max=0.1)
class Other:
    def step""",
            "interval: ClassVar = 7": "interval: ClassVar = None",
        },
        r"update 0, run 1: expected learning rate of layer 0 0.2 with the base learning rate doubled, got 0.1$",
    ),
    (
        "open_optimizer",
        open_run("    def step(self, lr): return super().step(lr * random.random())\n"),
        r"^in place of 'sgd': expected the same parameters if trained again, they differ by \d",
    ),
    (
        "open_optimizer",
        open_run(
            "    def step(self, lr):\n"
            "        (first, *_) = self.optimizer.param_groups[0]['params']\n"
            "        return super().step(lr / first.untyped_storage().nbytes())\n"
        ),
        r"'sgd': expected the same parameters if trained alone",
    ),
    (
        "open_optimizer",
        open_run(
            "    n = 1\n    def eval(self): self.n += 1\n    def step(self, lr): return super().step(lr / self.n)\n"
        ),
        r"'sgd': expected the same parameters if evaluated after every update",
    ),
    (
        "open_optimizer",
        open_run("    def step(self, lr): return lr\n"),
        r"expected finite parameters that changed in 20",
    ),
    ("open_optimizer", open_run("    def step(self, lr): return -super().step(lr)\n"), r"rates >= 0, got -0.1$"),
    (
        "loads",
        {"@dataclass(frozen=True)": "torch.set_default_dtype(torch.float64)\n@dataclass(frozen=True)"},
        IMPORTING,
    ),
    (
        "loads",
        {"@classmethod": "@classmethod\n    @lambda f: lambda cls: (torch.set_num_threads(7), f(cls))[1]"},
        THREADS,
    ),
    ("loads", {"@dataclass(frozen=True)": "exit(0)\n@dataclass(frozen=True)"}, "importing it raised SystemExit: 0"),
    (
        "process_unchanged",
        {"def init(self, run): return": "def init(self, run): torch.set_default_dtype(torch.float64); return"},
        "^init changed PyTorch's default dtype from torch.float32 to torch.float64, shared by the whole process$",
    ),
    (
        "process_unchanged",
        computing("(torch.set_grad_enabled(False), lr)[1] if self.share != 0.5 else lr"),
        r"\{'share': .*\}, horizon 61: update 0: step changed PyTorch's grad mode from True to False",
    ),
    (
        "process_unchanged",
        computing("lr * random.uniform(0.9, 1.0)"),
        "drew from or seeded the global random numbers of Python",
    ),
    (
        "process_unchanged",
        computing("lr * (0.5 + torch.rand(()))"),
        "^update 0: step drew from or seeded the global random numbers of PyTorch",
    ),
    (
        "process_unchanged",
        open_run("    def step(self, lr):\n        torch.set_flush_denormal(True)\n        return super().step(lr)\n"),
        "PyTorch's flushing of denormal numbers from False to True",
    ),
]


@pytest.mark.parametrize(("name", "edits", "message"), BROKEN)
def test_a_broken_scheduler_fails_exactly_its_check(
    tmp_path: Path, name: str, edits: dict[str, str], message: str
) -> None:
    edits = {old.replace("FACTOR", FACTOR): new.replace("FACTOR", FACTOR) for old, new in edits.items()}
    failed = [result for result in check_scheduler(scheduler(tmp_path, edits)) if not result.ok]
    assert [result.name for result in failed] == [name], failed
    assert (torch.get_default_dtype(), torch.get_num_threads()) == (torch.float32, 1)
    assert re.search(message, failed[0].message), failed[0].message
    assert "\n" not in failed[0].message


def test_every_check_is_broken_by_something() -> None:
    assert {name for name, _, _ in BROKEN} == set(NAMES)


def test_an_unexpected_error_is_a_failed_check_and_no_crash(tmp_path: Path) -> None:
    ref = scheduler(tmp_path, {"'n': 0": "'n': (i for i in [])", "state['n'] + 1": "state['n']"})
    results = {result.name: result.message for result in check_scheduler(ref)}
    assert "TypeError: cannot pickle 'generator' object" in results["inputs_unchanged"]


def test_nothing_is_checked_of_what_cannot_be_found(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        check_scheduler("cosin")
    with pytest.raises(ConfigError, match="must have the form"):
        check_scheduler("cosine(")


def test_optunas_logging_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    assert all(result.ok for result in check_scheduler("cosine"))
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr() == ("", "")


def test_every_check_says_what_it_checks() -> None:
    assert all(inspect.getdoc(check) for check in CHECKS)


class TestCosineWithAFinalFactor(SchedulerContract):
    ref = "cosine(final_factor=0.1)"


def test_the_pytest_class_fails_where_the_function_does(tmp_path: Path) -> None:
    class Broken(SchedulerContract):
        ref = scheduler(tmp_path, returning("Controls(-lr)"))

    with pytest.raises(ContractError, match="expected a finite learning rate >= 0"):
        Broken().test_contract(CHECKS[0])


def test_the_contract_does_not_need_pytest() -> None:
    import subprocess
    import sys

    code = "import sys, ganno_bench.testing.scheduler_contract; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The contracts of models, datasets, observations and rewards: for each check, a plugin that fails only it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ganno_bench.core.errors import ConfigError
from ganno_bench.marl.rewards import REWARDS
from ganno_bench.policies.observations import OBSERVATIONS
from ganno_bench.testing import dataset_contract, model_contract, observation_contract, reward_contract
from ganno_bench.testing.contract import CheckResult
from ganno_bench.workloads.embedded import EMBEDDED

MODEL = """
import torch
from torch import nn
from ganno_bench.core.errors import ConfigError

class Mine(nn.Module):
    def __init__(self, shape, *, depth: int, width: int = 8):
        super().__init__()
        if shape.input_shape != (1, 8, 8): raise ConfigError("only small gray images")
        sizes = [64, *[width] * depth]
        self.stack = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])))
        self.head = nn.Linear(width, shape.n_outputs)

    def forward(self, inputs):
        hidden = inputs.flatten(1)
        for layer in self.stack:
            hidden = torch.tanh(layer(hidden))
        return self.head(hidden)
"""
DATASET = '''
import random
import datasets

def mine():
    """Short texts."""
    rows = [{"text": f"number {n}", "odd": n % 2} for n in range(20)]
    train, test = rows[:15], rows[15:]
    return {"train": datasets.Dataset.from_list(train), "test": datasets.Dataset.from_list(test)}
'''
OBSERVATION = """
import torch
from ganno_bench.policies.observations import feature, run_feature

@feature("grad_norm")
def mine(view):
    return view.layer("grad_norm").tanh()
"""
REWARD = """
import torch
from ganno_bench.marl.rewards import reward

@reward("grad_norm")
def mine(transition):
    calm = transition.after.grad_norm.nan_to_num(0.0).mean(1)
    return (transition.val_before - transition.val_after - calm)[:, None]
"""
IF = 'if shape.input_shape != (1, 8, 8): raise ConfigError("only small gray images")'
HEAD = "return self.head(hidden)"
GRAD = 'return view.layer("grad_norm").tanh()'
CALM = "return (transition.val_before - transition.val_after - calm)[:, None]"
ROWS = "    train, test = rows[:15], rows[15:]\n"

COUNTING = "import torch\nfrom itertools import count\nCOUNT = count(1)\n"

Case = tuple[str, str, dict[str, str], str]
CASES: list[Case] = [
    # The contract, the check that fails, the edit of the good plugin, and the message.
    (
        "model",
        "loads",
        {IF: "1 / 0"},
        "accepts no kind of data: gray images of 8 x 8: model .* cannot be built: ZeroDivisionError",
    ),
    (
        "model",
        "logits",
        {HEAD: "return self.head(hidden)[:, None]"},
        r"expected logits of shape \(3, 4\), got \(3, 1, 4\)",
    ),
    ("model", "logits", {HEAD: "return self.head(hidden), hidden"}, "got tuple"),
    ("model", "logits", {HEAD: "return self.head(hidden) / 0"}, "expected finite logits, got -?inf"),
    (
        "model",
        "layers",
        {"    def forward": "    def layers(self): return {'one': [self.head]}\n    def forward"},
        r"parameter 'stack.0.weight' must belong to 1 layer \(found: 0\)",
    ),
    (
        "model",
        "initialisation",
        {"self.head = nn": "import time; self.scale = nn.Parameter(torch.tensor(time.time() % 1)); self.head = nn"},
        "expected 'scale' to be the same when built again with the same seed",
    ),
    (
        "model",
        "initialisation",
        {
            "self.head = nn": "torch.manual_seed(3)\n        self.head = nn",
            "sizes = ": "torch.manual_seed(3)\n        sizes = ",
        },
        "expected another initialisation",
    ),
    (
        "model",
        "nothing_random",
        {HEAD: "return self.head(nn.functional.dropout(hidden, 0.1, self.training))"},
        "is there dropout",
    ),
    (
        "model",
        "examples_apart",
        {HEAD: "return self.head(hidden - hidden.mean(0))"},
        "expected the same logits for an example alone and in a batch",
    ),
    (
        "model",
        "backends",
        {HEAD: "return self.head(hidden).detach() + 0 * sum(p.sum() for p in self.parameters())"},
        "expected the loss to change",
    ),
    (
        "model",
        "alone",
        {
            HEAD: "Mine.calls += 1; return self.head(hidden) * (1 + Mine.calls / 1e3)",
            "    def __init__": "    calls = 0\n    def __init__",
        },
        "expected the same losses, bit by bit, for a run alone and next to others",
    ),
    (
        "model",
        "loads",
        {"sizes = ": "__import__('random').random()\n        sizes = "},
        "building it drew from or seeded the global random numbers of Python",
    ),
    (
        "model",
        "process_unchanged",
        {HEAD: "torch.set_num_threads(3); " + HEAD},
        "^it changed PyTorch's number of threads from 1 to 3",
    ),
    (
        "dataset",
        "loads",
        {ROWS: ROWS + "    __import__('numpy').seterr(all='raise')\n"},
        "making it changed NumPy's handling of floating-point errors of 'divide' from warn to raise",
    ),
    ("dataset", "loads", {"def mine():": "def mine(size):"}, "takes arguments: missing a required argument: 'size'"),
    ("dataset", "loads", {ROWS: "    1 / 0\n"}, "raised ZeroDivisionError"),
    ("dataset", "splits", {'"test": ': '"tests": '}, "expected a split 'test', got train, tests"),
    (
        "dataset",
        "splits",
        {"datasets.Dataset.from_list(test)": "test"},
        "expected split 'test' to be a datasets.Dataset, got list",
    ),
    ("dataset", "splits", {ROWS: "    train, test = rows, []\n"}, "expected rows in split 'test', got none"),
    (
        "dataset",
        "columns",
        {ROWS: ROWS + "    test = [{'text': row['text']} for row in test]\n"},
        "expected split 'test' to have the columns of 'train'",
    ),
    (
        "dataset",
        "repeatable",
        {ROWS: "    random.shuffle(rows)\n" + ROWS},
        "expected the same rows in split '.*' at the next call",
    ),
    (
        "dataset",
        "disjoint",
        {"rows[15:]": "rows[14:]"},
        "expected no row in both 'train' and 'test', got 1: .*number 14",
    ),
    ("dataset", "described", {'    """Short texts."""\n': ""}, "expected a docstring"),
    (
        "observation",
        "loads",
        {'@feature("grad_norm")': '@feature("grad_nrom")'},
        "needs the unknown signal 'grad_nrom'; did you mean 'grad_norm'",
    ),
    ("observation", "loads", {'@feature("grad_norm")\n': ""}, "expected a Feature, got function"),
    (
        "observation",
        "shape",
        {GRAD: 'return view.layer("grad_norm").tanh().sum(1)'},
        r"after 0 updates: expected shape \(3, 4\) or \(3, 1\), got \(3,\)",
    ),
    (
        "observation",
        "shape",
        {GRAD: 'return view.layer("grad_norm") > 1'},
        "expected a floating-point tensor, got torch.bool",
    ),
    (
        "observation",
        "finite",
        {GRAD: 'return view.layer("grad_norm").neg().log()'},
        "after 2 updates: expected finite values, got nan",
    ),
    (
        "observation",
        "finite",
        {GRAD: GRAD + " / (view.signals.n_updates != 37)"},
        "after 37 updates: expected finite values, got inf",
    ),
    (
        "observation",
        "range",
        {GRAD: 'return 100 + view.layer("grad_norm")'},
        r"expected values within \[-3, 3\], got 75% outside, up to 10",
    ),
    (
        "observation",
        "needs",
        {'@feature("grad_norm")': "@feature()"},
        "with needs = .. and the other signals None: raised AttributeError",
    ),
    (
        "observation",
        "deterministic",
        {GRAD: GRAD + " / next(COUNT)", "import torch\n": COUNTING},
        "the second time",
    ),
    (
        "observation",
        "process_unchanged",
        {GRAD: 'return torch.rand_like(view.layer("grad_norm"))'},
        r"^it drew from or seeded the global random numbers of PyTorch",
    ),
    (
        "observation",
        "inputs_unchanged",
        {GRAD: 'return view.layer("grad_norm").tanh_()'},
        "changed view.signals.grad_norm",
    ),
    (
        "observation",
        "independent_runs",
        {GRAD: GRAD + ' - view.layer("grad_norm").nan_to_num(0.0).mean().tanh()'},
        r"expected the same for runs \[1\] as among \[0, 1, 2\]",
    ),
    (
        "observation",
        "numbers",
        {'@feature("grad_norm")': "@run_feature()", GRAD: 'return view.log_loss("last").tanh()'},
        "after 0 updates, from plain numbers: raised AttributeError: 'float' object has no attribute 'tanh'",
    ),
    (
        "observation",
        "numbers",
        {
            '@feature("grad_norm")': "@run_feature()",
            GRAD: 'return view.log_loss("train") + view.everywhere(float(isinstance(view.lr, float)))',
        },
        r"after 10 updates, from plain numbers: expected 0\.\d+, got 1\.\d+",
    ),
    (
        "observation",
        "numbers",
        {'@feature("grad_norm")': "@run_feature()", GRAD: 'return view.log_loss("train") / view.log_loss("first")'},
        "after 60 updates, from plain numbers: raised ZeroDivisionError",
    ),
    (
        "observation",
        "numbers",
        {'@feature("grad_norm")': '@run_feature("grad_norm")', GRAD: 'return view.layer("grad_norm").tanh()'},
        "after 0 updates, from plain numbers: raised AttributeError: 'numpy.ndarray' object has no attribute 'tanh'",
    ),
    (
        "observation",
        "numbers",
        {
            '@feature("grad_norm")': '@run_feature("grad_norm")',
            GRAD: 'return view.log10(view.layer("grad_norm")[..., :1])',
        },
        r"after 0 updates, from plain numbers: expected shape \(4,\) or a number, got \(1,\)",
    ),
    (
        "observation",
        "numbers",
        {'@feature("grad_norm")': "@run_feature(constant=True)", GRAD: "return view.everywhere(view.progress)"},
        "constant, but not a function of view.run alone: .* has no attribute 'progress'",
    ),
    ("reward", "loads", {'@reward("grad_norm")\n': ""}, "expected a Reward, got function"),
    ("reward", "loads", {'@reward("grad_norm")': '@reward("grads")'}, "needs the unknown signal 'grads'"),
    (
        "reward",
        "shape",
        {CALM: CALM[:-9]},
        r"after 0 updates: expected .* of shape \(3, 1\), as per_agent is False, got torch.float64 of shape \(3,\)",
    ),
    (
        "reward",
        "shape",
        {'@reward("grad_norm")': '@reward("grad_norm", per_agent=True)'},
        r"expected .* of shape \(3, 4\), as per_agent is True",
    ),
    ("reward", "finite", {".nan_to_num(0.0)": ""}, "a diverged run: expected a finite reward, got nan"),
    (
        "reward",
        "finite",
        {CALM: "return transition.before.grad_norm.mean(1, True)"},
        "decision after 0 updates, a sound run: expected a finite reward, got nan",
    ),
    (
        "reward",
        "finite",
        {CALM: CALM + " / (transition.before.n_updates != 37)"},
        "decision after 37 updates, a sound run: expected a finite reward, got (-?inf|nan)",
    ),
    (
        "reward",
        "finite",
        {
            CALM: "gain = transition.val_before - transition.val_after\n"
            "    return (gain / gain.abs()).where(~transition.before.diverged, torch.zeros_like(gain))[:, None]"
        },
        "a sound run: expected a finite reward, got nan",
    ),
    (
        "reward",
        "finite",
        {CALM: CALM + " * 1e9"},
        r"decision after 0 updates, a sound run: expected a reward of at most 1e\+06 in size, got",
    ),
    ("reward", "needs", {'@reward("grad_norm")': "@reward()"}, "raised AttributeError"),
    (
        "reward",
        "deterministic",
        {CALM: CALM + " / next(COUNT)", "import torch\n": COUNTING},
        "the second time",
    ),
    (
        "reward",
        "process_unchanged",
        {CALM: CALM + " + torch.rand(1)"},
        "^it drew from or seeded the global random numbers of PyTorch",
    ),
    ("reward", "inputs_unchanged", {CALM: "transition.val_after.mul_(2)\n    " + CALM}, "changed transition.val_after"),
    ("reward", "independent_runs", {CALM: CALM.replace("calm)", "calm.mean())")}, "expected the same for runs"),
]
CONTRACTS: dict[str, tuple[str, str, Callable[[str], list[CheckResult]]]] = {
    "model": (MODEL, "Mine(depth=2)", model_contract.check_family),
    "dataset": (DATASET, "mine", dataset_contract.check_dataset),
    "observation": (OBSERVATION, "mine", observation_contract.check_observation),
    "reward": (REWARD, "mine", reward_contract.check_reward),
}


def check(folder: Path, kind: str, edits: dict[str, str]) -> list[CheckResult]:
    text, name, run = CONTRACTS[kind]
    for old, new in edits.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "mine.py").write_text(text)
    return run(f"{folder / 'mine.py'}:{name}")


@pytest.mark.parametrize("kind", list(CONTRACTS))
def test_the_good_one_passes_every_check(tmp_path: Path, kind: str) -> None:
    results = check(tmp_path, kind, {})
    module = {"model": model_contract, "dataset": dataset_contract, "observation": observation_contract}
    checks = module.get(kind, reward_contract).CHECKS
    names = [check.__name__.removeprefix("check_") for check in checks]
    assert [result.name for result in results] == ["loads", *names, "process_unchanged"]
    assert [result.message for result in results if not result.ok] == []


@pytest.mark.parametrize(("kind", "name", "edits", "message"), CASES)
def test_each_check_is_failed_by_what_breaks_it(
    tmp_path: Path, kind: str, name: str, edits: dict[str, str], message: str
) -> None:
    failed = {result.name: result.message for result in check(tmp_path, kind, edits) if not result.ok}
    assert name in failed, failed
    assert re.search(message, failed[name]), failed[name]
    assert "\n" not in failed[name]


def test_a_dataset_may_seed_global_random_numbers(tmp_path: Path) -> None:
    before = random.getstate()
    results = check(tmp_path, "dataset", {ROWS: "    random.seed(0)\n    random.shuffle(rows)\n" + ROWS})
    assert [result.message for result in results if not result.ok] == []
    assert random.getstate() == before


def test_a_missing_argument_of_a_model_is_the_callers_mistake() -> None:
    with pytest.raises(ConfigError, match=r"^model 'mlp': key 'model.depth': is missing; model family 'mlp' needs it$"):
        model_contract.check_family("mlp")
    with pytest.raises(ConfigError, match=r"^model name 'mlp\(2\)' must have the form NAME or NAME\(key=value"):
        model_contract.check_family("mlp(2)")


class TestModel(model_contract.ModelContract):
    ref = "mlp(depth=2)"


class TestWithRunningStatistics(model_contract.ModelContract):
    ref = "resnet(depth=8, batch_norm=True, width=3)"


class TestDataset(dataset_contract.DatasetContract):
    ref = "stdlib-chars"


def test_all_datasets_are_described() -> None:
    for name in EMBEDDED.entries():
        dataset_contract.check_described(dataset_contract.DatasetEntry(EMBEDDED.load(name), {}))


@pytest.mark.parametrize("name", list(OBSERVATIONS.entries()))
def test_every_observation_keeps_its_contract(name: str) -> None:
    assert [result.message for result in observation_contract.check_observation(name) if not result.ok] == []


@pytest.mark.parametrize("name", list(REWARDS.entries()))
def test_every_reward_keeps_its_contract(name: str) -> None:
    assert [result.message for result in reward_contract.check_reward(name) if not result.ok] == []

"""A project with the tiny suite, a run and submissions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ganno_bench.baselines.files import BaselineFolder
from ganno_bench.baselines.write import BaselineWriter
from ganno_bench.leaderboard.known import KnownSuites
from ganno_bench.leaderboard.submit import Written, submit
from ganno_bench.leaderboard.validate import check_leaderboard
from tests.helpers.resealed import sealed_data
from tests.helpers.tiny_suite import datasets_read_once, run_tiny, write_plugin, write_suite

EDITS = (
    ("trials = 6", "trials = 3"),
    ("\n[dataset.digits]\n", '\n[variation]\nhorizon = [0.5]\nbase_lr = [0.5]\nseeds = 2\n\n[dataset.digits]\n'),
    ("[[workload]]\nid = \"adam-mlp\"", "[dataset.here]\nsource = \"digits\"\nlocal = true\n"
     "task = \"image-classification\"\ninput = \"image\"\ntarget = \"label\"\nmax_train = 32\nmax_validation = 32\n"
     "max_test = 32\n\n[[workload]]\nid = \"local-mlp\"\ndataset = \"here\"\n"
     "model = { family = \"mlp\", depth = 1, width = 4 }\noptimizer = { name = \"sgd\" }\nbatch_size = 4\n"
     "n_updates = 2\n\n[[workload]]\nid = \"adam-mlp\""),
)  # fmt: skip
PLUGIN = (
    ("interval = 2", "interval = 2\n    warmup: float = 0.1\n    kind: str = 'a'"),
    ("    def init", "    @classmethod\n    def search_space(cls):\n"
     "        return {'warmup': FloatDistribution(0.01, 0.5), "
     "'kind': CategoricalDistribution(['a', 'b'])}\n\n    def init"),
    ("import torch\n", "import torch\nfrom optuna.distributions import CategoricalDistribution, FloatDistribution\n"),
)  # fmt: skip
WORKLOADS = ("sgd-mlp", "adam-mlp")


@contextmanager
def project(path: Path) -> Iterator[None]:
    """Point the project's suites and baselines to a folder; in a test the fixture `world` does so."""
    with (
        mock.patch("ganno_bench.workloads.suite.resource_dir", lambda name: path / name),
        mock.patch.dict("os.environ", {"GANNO_BENCH_BASELINES": str(path / "baselines")}),
        datasets_read_once(),
    ):
        yield


@dataclass(frozen=True)
class World:
    path: Path

    @property
    def root(self) -> Path:
        return self.path / "leaderboard"

    @property
    def mine(self) -> Path:
        """The folder of the tuned submission."""
        return self.root / "submissions" / "tiny" / "my-entry"

    @property
    def frozen(self) -> Path:
        """The folder of the zero-shot submission."""
        return self.root / "submissions" / "tiny" / "frozen-wsd"

    @property
    def suites(self) -> KnownSuites:
        return KnownSuites(BaselineFolder(self.path / "baselines"))

    @property
    def plugin(self) -> str:
        return f"{self.path}/mine.py:Mine"

    def make(self) -> None:
        (self.path / "suites").mkdir()
        suite = write_suite(self.path / "suites", *EDITS)
        write_plugin(self.path, *PLUGIN)
        writer = BaselineWriter(BaselineFolder(self.path / "baselines"))
        run_tiny(suite, self.path / "committed", schedulers=["cosine"], on_finished=writer.write)
        run_tiny(suite, self.path / "run", schedulers=[self.plugin, "default:wsd"])
        self.submit("my-entry", scheduler="mine")
        self.submit("frozen-wsd", scheduler="default:wsd")

    def submit(self, name: str = "another", run: str = "run", **said: Any) -> Written:
        said = {"description": "It's mine.", "suites": self.suites} | said
        return submit([self.path / run], self.root / "submissions", name=name, **said)

    def faults(self) -> list[str]:
        """Return all faults, without the submission's folder in front."""
        checked = check_leaderboard(self.root, self.suites)
        return [
            fault.replace("submissions/tiny/my-entry/", "").replace("submissions/tiny/frozen-wsd/", "frozen/")
            for verdict in checked.verdicts
            for fault in verdict.faults
        ]


def edit(file: Path, old: str, new: str, count: int = 1) -> None:
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new, count))


def edit_line(file: Path, change: Callable[[dict[str, Any]], Any], index: int = 0) -> None:
    """Change the data of one line of JSON and correct its checksum."""
    lines = file.read_text().splitlines()
    data = json.loads(lines[index])
    change(data)
    lines[index] = sealed_data(data)
    file.write_text("\n".join(lines) + "\n")

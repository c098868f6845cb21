"""Compare the population engine with JAX, and the agents' environment with DACBench's SGD environment.

    python benchmarks/peers.py [--quick] [--only NAMES] [--backends NAMES] [--peers-env DIR]

Run nothing else meanwhile. JAX and DACBench are installed in environments of their own, in a temporary folder or in
`DIR`, where the next call finds them again. They run in worker processes: `peer_jax.py` and `peer_dacbench.py`. All
processes use one thread and the same core, and take turns. Every number is the median over repetitions.

The engine and JAX train the same networks: from the same weights, on the same batches, with the same optimizer, with a
learning rate for each run and layer and a weight decay for each run. Before anything is timed, the script compares the
training losses of the first 10 updates of every run, and fails if they differ. The contenders:

backends    the engine, in decision intervals of 10 updates, without evaluation
JAX         the same in JAX: one compiled call for each decision interval
floor       the matrix products of forward and backward pass alone, in PyTorch, on random numbers of the same shapes

Setup and compilation are not in these times; the second table has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from engine import LR, floor, workload
from torch import Tensor

from ganno_bench.core.errors import ConfigError
from ganno_bench.core.seeding import stream_seed
from ganno_bench.training.choice import BACKENDS, resolve_backend
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.data import Examples, TokenStream
from ganno_bench.workloads.suite import OptimizerSpec
from ganno_bench.workloads.workload import Workload

HERE = Path(__file__).resolve().parent
INTERVAL = 10  # updates of a decision interval
TOLERANCE = 1e-4  # relative difference of losses; float32 alone gives about 1e-6
SEEDS = (0, 1)  # the runs of a population share them, like the trials of a batch
WEIGHT_DECAY = (0.05, 0.1)  # strong, so that a wrong one would change the first losses; it costs the same

JAX = {
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "ml_dtypes": "0.6.0",
    "numpy": "2.4.6",
    "opt_einsum": "3.4.0",
    "scipy": "1.17.1",
}
# What DACBench imports and this project does not have. PyTorch and the rest come from the project's environment.
DACBENCH = {
    "dacbench": "0.5.6",
    "ConfigSpace": "1.2.2",
    "Farama-Notifications": "0.0.6",
    "gymnasium": "1.4.0",
    "ioh": "0.4.2",
    "seaborn": "0.13.2",
}
CNN = {"family": "cnn", "depth": 3, "width": 8}
LSTM = {"family": "lstm", "depth": 1}
CASES: dict[str, tuple[Callable[[], Workload], tuple[int, ...]]] = {
    "digits-mlp-4": (lambda: workload("digits-mlp-4"), (16, 64)),
    "digits-cnn-3": (lambda: workload("digits-mlp-4", model=CNN), (16,)),
    "stdlib-chars-transformer-2": (lambda: workload("stdlib-chars-transformer-2"), (16, 64)),
    "stdlib-chars-lstm-1": (lambda: workload("stdlib-chars-transformer-1", model=LSTM), (16,)),
}
"""Name -> how to load it, and numbers of runs."""


@dataclass(frozen=True)
class Seconds:
    """Wall time and CPU time."""

    wall: float
    cpu: float

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __truediv__(self, parts: int) -> Seconds:
        return Seconds(self.wall / parts, self.cpu / parts)

    @classmethod
    def now(cls) -> Self:
        """Return the present time."""
        return cls(time.perf_counter(), time.process_time())

    @classmethod
    def median(cls, times: Sequence[Seconds]) -> Self:
        """Return the medians, each on its own."""
        return cls(statistics.median(one.wall for one in times), statistics.median(one.cpu for one in times))


def environment(folder: Path, pins: dict[str, str], *, with_project: bool) -> Path:
    """Return the Python of an environment with these packages; make it in `folder` unless it is there already.

    Args:
        folder: Where the environment is.
        pins: Package -> version. Their dependencies are not installed.
        with_project: Whether the environment sees the packages of this project's environment after its own.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    made = folder / "pins.json"
    if not made.exists() or json.loads(made.read_text(encoding="utf-8")) != pins:
        if folder.exists() and not (folder / "pyvenv.cfg").exists():
            sys.exit(f"{folder}: is not an environment of this script; give another folder to --peers-env")
        requirements = [f"{name}=={version}" for name, version in pins.items()]
        print(f"installing {', '.join(requirements)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", *requirements])
        if done.returncode:
            sys.exit(f"cannot install {', '.join(requirements)}; the message of pip is above")
        made.write_text(json.dumps(pins), encoding="utf-8")
    if with_project:
        asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
        packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (own / "project.pth").write_text("\n".join(packages) + "\n", encoding="utf-8")
    return python


class Worker:
    """A process that answers requests, both as lines of JSON."""

    def __init__(self, python: Path, script: str) -> None:
        settings = {
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        self._script = script
        self._process = subprocess.Popen(
            [python, HERE / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | settings,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit(f"{self._script} stopped; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def seconds(self, **request: int) -> Seconds:
        """Return the times of a request."""
        answer = self.ask(**request)
        return Seconds(answer["wall"], answer["cpu"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@contextmanager
def one_core() -> Any:
    """Use one thread of PyTorch and one core. Workers that are started inside inherit the core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if cores is not None:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def take_turns(contenders: Mapping[str, Callable[[], Seconds]], repetitions: int) -> dict[str, Seconds]:
    """Return the median times of each contender; the first turn of each warms it up."""
    times: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, contender in contenders.items():
            seconds = contender()
            if repetition:
                times[name].append(seconds)
    return {name: Seconds.median(each) for name, each in times.items()}


class Case:
    """The same population for all contenders."""

    def __init__(self, work: Workload, n_runs: int) -> None:
        self.work = work
        self.n_runs = n_runs
        self.seeds = [SEEDS[run % len(SEEDS)] for run in range(n_runs)]
        engine = Engine(work)
        self.layout = engine.layout
        base = LR[work.spec.optimizer.name]
        runs = torch.linspace(0.5, 1.0, n_runs, dtype=torch.float64)[:, None]
        layers = torch.linspace(0.8, 1.2, self.layout.n_layers, dtype=torch.float64)
        self.weight_decay = torch.linspace(*WEIGHT_DECAY, n_runs, dtype=torch.float64)
        self.lr = (base * runs * layers).expand(INTERVAL, n_runs, self.layout.n_layers)

    def population(self, engine: Engine) -> Population:
        """Return the population before the first update."""
        return engine.population(self.seeds, self.weight_decay)

    def losses(self, engine: Engine) -> Tensor:
        """Return the losses of the first decision interval, shape (updates, runs)."""
        runs = self.population(engine)
        return torch.stack([runs.advance(Controls(lr[None]), 1).train_loss for lr in self.lr])

    def train(self, engine: Engine, n_decisions: int) -> Seconds:
        """Return the time of some decision intervals, without the setup."""
        runs = self.population(engine)
        start = Seconds.now()
        for _ in range(n_decisions):
            runs.advance(Controls(self.lr), INTERVAL)
        return Seconds.now() - start

    def first_decision(self, backend: str) -> tuple[Engine, float]:
        """Return a new engine, and how many CPU seconds longer its first decision interval takes than the second."""
        engine = Engine(self.work, backend=backend)
        seconds = []
        for _ in range(2):
            runs = self.population(engine)
            start = time.process_time()
            runs.advance(Controls(self.lr), INTERVAL)
            seconds.append(time.process_time() - start)
        return engine, max(0.0, seconds[0] - seconds[1])

    def export(self, file: Path) -> dict[str, Any]:
        """Write weights, data and batches of the engine, and return what else a worker must know."""
        engine, spec, train = Engine(self.work), self.work.spec, self.work.dataset.train
        chunks = self.population(engine).state_dict()["chunks"]
        parameters = torch.cat([chunk["parameters"] for chunk in chunks])
        assert len(parameters) == self.n_runs
        generators = [torch.Generator().manual_seed(stream_seed(seed, "data-order")) for seed in SEEDS]
        order = torch.stack([train.order(one, spec.n_updates, spec.batch_size) for one in generators], dim=1)
        arrays = {
            "order": order,
            "seed": torch.tensor([SEEDS.index(seed) for seed in self.seeds]),
            "lr": self.lr,
            "weight_decay": self.weight_decay,
        }
        views = zip(self.layout.names, self.layout.views(parameters), strict=True)
        arrays |= {f"weights/{name}": view for name, view in views}
        layers = {name: index for index, layer in enumerate(self.layout.layers) for name in layer.parameters}
        told = {"model": spec.model, "optimizer": spec.optimizer.model_dump(), "layer": layers, "updates": INTERVAL}
        if isinstance(train, TokenStream):
            arrays["tokens"] = train.tokens
            told["length"] = train.sequence_length
        else:
            assert isinstance(train, Examples)
            arrays |= {"inputs": train.inputs, "targets": train.targets}
        values: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
        np.savez(file, **values)
        return told


def timed(run: Callable[[], None]) -> Callable[[], Seconds]:
    """Return a function that calls another and returns its time."""

    def call() -> Seconds:
        start = Seconds.now()
        run()
        return Seconds.now() - start

    return call


@dataclass(frozen=True)
class Row:
    """Measurements of one population.

    Attributes:
        name: Name of the workload.
        n_runs: Number of runs.
        chosen: Contender -> what it chose: a backend, or how many runs it computes together.
        times: Contender -> time per update.
        extra: Contender -> seconds that only the first decision interval takes.
        difference: The largest relative difference between losses of the engine and of JAX.
    """

    name: str
    n_runs: int
    chosen: Mapping[str, str]
    times: Mapping[str, Seconds]
    extra: Mapping[str, float]
    difference: float


def measure(name: str, case: Case, backends: Sequence[str], python: Path, folder: Path, quick: bool) -> Row:
    """Return the measurements of a population. Exit if the engine and JAX train other networks."""
    decisions, repetitions = (1, 2) if quick else (3, 9)
    engines: dict[str, Engine] = {}
    extra: dict[str, float] = {}
    by_auto = resolve_backend("auto", case.work.build(0), torch.device("cpu"))
    for backend in backends:
        if backend == by_auto and "auto" in backends:
            continue
        try:
            engines[backend], extra[backend] = case.first_decision(backend)
        except ConfigError as error:
            print(f"{name}: backend {backend!r} is left out: {error}", file=sys.stderr)
    if not engines:
        sys.exit(f"{name}: none of the backends {', '.join(backends)} trains this network; add auto to --backends")
    file = folder / "case.npz"
    spec = case.export(file)
    with Worker(python, "peer_jax.py") as jax:
        loaded = jax.ask(load=str(file), spec=spec)
        theirs = torch.tensor(loaded["losses"], dtype=torch.float64)
        difference = 0.0
        for backend, engine in engines.items():
            own = float(((case.losses(engine) - theirs).abs() / theirs).max())
            if not own <= TOLERANCE:
                sys.exit(
                    f"{name}, {case.n_runs} runs: losses of backend {backend!r} and of JAX differ by {own:.1e} in the "
                    f"first {INTERVAL} updates (allowed: {TOLERANCE:.0e})"
                )
            difference = max(difference, own)
        contenders: dict[str, Callable[[], Seconds]] = {
            backend: partial(case.train, engine, decisions) for backend, engine in engines.items()
        }
        contenders["JAX"] = partial(jax.seconds, decisions=decisions)
        contenders["floor"] = timed(floor(case.work, case.n_runs, decisions * INTERVAL))
        times = take_turns(contenders, repetitions)
    chosen = {backend: engine.backend.name for backend, engine in engines.items() if backend == "auto"}
    if loaded["chunk"] < case.n_runs:
        chosen["JAX"] = f"{loaded['chunk']} at a time"
    per_update = {key: seconds / (decisions * INTERVAL) for key, seconds in times.items()}
    return Row(name, case.n_runs, chosen, per_update, extra | {"JAX": loaded["compile_s"]}, difference)


def against_jax(names: Sequence[str], backends: Sequence[str], python: Path, folder: Path, quick: bool) -> None:
    """Print the times per update and the compile times."""
    rows = []
    for name in names:
        build, sizes = CASES[name]
        for n_runs in sizes[:1] if quick else sizes:
            rows.append(measure(name, Case(build(), n_runs), backends, python, folder, quick))
    shown = [backend for backend in backends if any(backend in row.times for row in rows)]
    columns = [f"{name} ms" for name in (*shown, "JAX", "floor")] + [f"{name} / JAX" for name in shown]
    print("\nMilliseconds per update of the whole population: wall time (CPU time). The ratios are of CPU times.")
    print(f"\n| workload | runs | {' | '.join(columns)} |")
    print("| --- |" + " ---: |" * (len(columns) + 1))
    for row in rows:
        cells = []
        for key in (*shown, "JAX", "floor"):
            cell = f"{row.times[key].wall * 1e3:.2f} ({row.times[key].cpu * 1e3:.2f})" if key in row.times else "-"
            cells.append(f"{cell}, {row.chosen[key]}" if key in row.chosen else cell)
        cells += [f"{row.times[key].cpu / row.times['JAX'].cpu:.2f}x" if key in row.times else "-" for key in shown]
        print(f"| {row.name} | {row.n_runs} | {' | '.join(cells)} |")
    print("\nCPU seconds that only the first decision interval takes: recording and compiling.\n")
    print(f"| workload | runs | {' | '.join((*shown, 'JAX'))} |")
    print("| --- |" + " ---: |" * (len(shown) + 2))
    for row in rows:
        cells = [f"{row.extra[key]:.2f}" if key in row.extra else "-" for key in (*shown, "JAX")]
        print(f"| {row.name} | {row.n_runs} | {' | '.join(cells)} |")
    print(
        f"\nThe losses of the engine and of JAX in the first {INTERVAL} updates of all runs differ by at most "
        f"{max(row.difference for row in rows):.1e}, relative to the loss."
    )


def against_dacbench(python: Path, folder: Path, quick: bool) -> None:
    """Print environment steps per second of DACBench's SGD environment and of the agents' environment."""
    from env import steps_per_second  # TorchRL takes seconds to import

    from ganno_bench.marl.env import LayerwiseLREnv

    work = workload("digits-mlp-4", optimizer=OptimizerSpec(name="adamw"))
    spec, train = work.spec, work.dataset.train
    assert isinstance(train, Examples)
    n_validation = 256
    n_examples = INTERVAL * spec.batch_size + n_validation
    images = train.inputs[:n_examples, 0]
    grey = ((images - images.min()) / (images.max() - images.min()) * 255).to(torch.uint8)
    file = folder / "digits.npz"
    np.savez(file, images=grey.numpy(), labels=train.targets[:n_examples].numpy())
    n_steps = 5 if quick else 20
    rates: dict[str, list[float]] = {}
    with Worker(python, "peer_dacbench.py") as pictures, Worker(python, "peer_dacbench.py") as tensors:
        workers = {"DACBench": pictures, "DACBench, examples as tensors": tensors}
        for worker in workers.values():
            loaded = worker.ask(
                load=str(file),
                depth=spec.model["depth"],
                width=spec.model["width"],
                batch_size=spec.batch_size,
                updates=INTERVAL,
                pictures=worker is pictures,
            )
            assert loaded["validation"] == n_validation
        sizes = (1, 16) if quick else (1, 16, 64, 256)
        envs = {
            f"this project, {size} run{'s' * (size > 1)}": LayerwiseLREnv(
                Engine(work, backend="loop" if size == 1 else "auto"),
                n_runs=size,
                interval=INTERVAL,
                validation_size=n_validation,
            )
            for size in sizes
        }
        for repetition in range(3 if quick else 6):
            for name, worker in workers.items():
                rate = n_steps / worker.seconds(steps=n_steps).wall
                rates.setdefault(name, []).append(rate)
            for name, env in envs.items():
                rates.setdefault(name, []).append(steps_per_second(env, 4 if quick else 10, 1))
            if not repetition:
                rates.clear()  # the first turn warms up
    print("\n| environment | environment steps per second | against DACBench |\n| --- | ---: | ---: |")
    steps = {name: statistics.median(each) for name, each in rates.items()}
    for name, rate in steps.items():
        print(f"| {name} | {rate:.0f} | {rate / steps['DACBench']:.1f}x |")


def main() -> None:
    """Print all tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run few repetitions, to test the script")
    names = [*CASES, "dacbench"]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"measure these: {', '.join(names)}")
    backends = ["auto", *BACKENDS]
    parser.add_argument(
        "--backends",
        nargs="+",
        choices=backends,
        default=backends,
        metavar="NAME",
        help=f"backends of the engine: {', '.join(backends)}; default: all",
    )
    parser.add_argument("--peers-env", type=Path, metavar="DIR", help="keep the peers' environments in this folder")
    arguments = parser.parse_args()
    wanted = arguments.only or names
    cases = [name for name in wanted if name in CASES]
    with tempfile.TemporaryDirectory() as temporary, one_core():
        folder = Path(temporary)
        peers = (arguments.peers_env or folder / "peers").resolve()
        peers.mkdir(parents=True, exist_ok=True)
        print(f"PyTorch {torch.__version__}, JAX {JAX['jax']}, DACBench {DACBENCH['dacbench']}, one thread")
        if cases:
            python = environment(peers / "jax", JAX, with_project=False)
            against_jax(cases, arguments.backends, python, folder, arguments.quick)
        if "dacbench" in wanted:
            python = environment(peers / "dacbench", DACBENCH, with_project=True)
            against_dacbench(python, folder, arguments.quick)


if __name__ == "__main__":
    main()

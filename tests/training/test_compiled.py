"""Compiled updates: what is compiled, where it is kept, when it is taken, and that it computes the same."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError
from ganno_bench.training import compiled, packages, prepare
from ganno_bench.training.choice import runs_together, update_flops, updates_to_repay
from ganno_bench.training.packages import CompilationError, package, packages_folder
from ganno_bench.training.population import Engine
from ganno_bench.training.prepare import prepared_engine
from ganno_bench.training.signals import LAYER_SIGNALS, Controls
from tests.helpers.replayed import replayed
from tests.helpers.torch_loop import parameters
from tests.helpers.workload_cases import ADAMW, BATCH_NORM, LARGE_IMAGES, make_engine, make_workload

COMPILER = packages.compiler()
UPDATES = 6
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Let each test have a cache of its own, and forget what was found and warned of."""
    monkeypatch.setenv("GANNO_BENCH_CACHE", str(tmp_path / "cache"))
    packages._warn_once.cache_clear()
    yield tmp_path / "cache"
    packages._warn_once.cache_clear()


def trained(engine: Engine, seeds: list[int], needs: tuple[str, ...] = ()) -> Tensor:
    """Return the parameters of runs after some updates; the learning rates depend on seed and layer."""
    population = engine.population(seeds, 1e-3, needs)
    scale = torch.tensor(seeds, dtype=torch.float64)[:, None] / 100
    lr = scale * torch.linspace(0.5, 1.0, engine.layout.n_layers, dtype=torch.float64)
    population.advance(Controls(lr), UPDATES)
    return parameters(population)


@needs_compiler
def test_a_run_is_compiled_once_and_the_same_in_any_population(own_cache: Path) -> None:
    workload = make_workload("mlp", n_updates=UPDATES, batch_size=7)
    first, again = (Engine(workload, backend="compiled") for _ in range(2))
    expected = trained(first, [3])[0]
    assert [one.compiled for one in first.backend._packages.values()] == [True]  # type: ignore[attr-defined]
    for seeds, place in (([1, 3], 1), ([3, 3, 3, 2, 1], 0), ([*range(1, 18), 3], 17), ([2] * 16 + [3] * 17, 32)):
        assert torch.equal(trained(again, seeds)[place], expected)
    assert [one.compiled for one in again.backend._packages.values()] == [False]  # type: ignore[attr-defined]
    torch.testing.assert_close(expected, trained(make_engine(workload, "vmap"), [3])[0], rtol=1e-4, atol=1e-6)
    (file,) = (own_cache / "compiled").iterdir()
    assert file.suffix == ".pt2"
    assert (own_cache / "compiled").stat().st_mode & 0o777 == 0o700


@needs_compiler
@pytest.mark.slow(group="compiled")
def test_compiled_code_computes_what_was_recorded() -> None:
    workload = make_workload("encoder", ADAMW, n_updates=UPDATES)
    engine = Engine(workload, backend="compiled", dtype=torch.float64)
    replay = make_engine(workload, "compiled", torch.float64)
    results = []
    for one in (engine, replay):
        population = one.population([3, 4, 5], 1e-2, (*LAYER_SIGNALS, "val_loss"))
        lr = torch.full((3, one.layout.n_layers), 1e-2, dtype=torch.float64)
        signals = population.advance(Controls(lr), UPDATES)
        results.append([parameters(population), *(getattr(signals, name) for name in (*LAYER_SIGNALS, "val_loss"))])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@needs_compiler
@pytest.mark.slow(group="compiled")
def test_a_damaged_package_is_compiled_again(own_cache: Path) -> None:
    workload = make_workload("mlp", n_updates=UPDATES)
    expected = trained(Engine(workload, backend="compiled"), [3])
    (file,) = (own_cache / "compiled").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    engine = Engine(workload, backend="compiled")
    assert torch.equal(trained(engine, [3]), expected)
    assert [one.compiled for one in engine.backend._packages.values()] == [True]  # type: ignore[attr-defined]


@needs_compiler
@pytest.mark.slow(group="compiled")
def test_processes_that_compile_at_once_compute_the_same(own_cache: Path) -> None:
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.helpers.workload_cases import make_workload\n"
        "from tests.training.test_compiled import UPDATES, trained\n"
        "from ganno_bench.training.population import Engine\n"
        "values = trained(Engine(make_workload('mlp', n_updates=UPDATES), backend='compiled'), [3])\n"
        "print(values.double().sum().item())"
    )
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len([*(own_cache / "compiled").iterdir()]) == 1


def prepared(monkeypatch: pytest.MonkeyPatch, *, backend: str = "auto", n_run_updates: int = 0, **changes: Any) -> Any:
    """Return backend and compiled workloads of an engine that replays, on a machine with a compiler and no packages."""
    told: list[str] = []

    def make(function: Any, inputs: Any, *, compiling: bool) -> packages.Package:
        if not compiling:
            raise CompilationError("is not compiled yet")
        if "error" in changes:
            raise CompilationError(changes["error"])
        return replayed(function, inputs)

    monkeypatch.setattr(compiled, "package", make)
    monkeypatch.setattr(prepare, "compiler", lambda: changes.get("compiler", "g++: 13"))
    engine = prepared_engine(
        changes.get("workload", make_workload("mlp", n_updates=UPDATES)),
        backend=backend,
        batch_sizes={10, 12},
        needs={frozenset(), frozenset(LAYER_SIGNALS)},
        has_open_optimizers=True,
        n_run_updates=n_run_updates,
        on_compiling=told.append,
    )
    return engine.backend.name, told


MANY = 10**12


def test_auto_compiles_what_repays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(monkeypatch, n_run_updates=MANY) == ("compiled", ["mlp"])
    assert prepared(monkeypatch, n_run_updates=10) == ("vmap", [])
    assert prepared(monkeypatch, n_run_updates=10, backend="compiled") == ("compiled", ["mlp"])
    assert prepared(monkeypatch, n_run_updates=MANY, backend="vmap") == ("vmap", [])


def test_auto_takes_what_is_compiled_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "package", replayed)
    monkeypatch.setattr(prepare, "compiler", lambda: "g++: 13")
    monkeypatch.setattr(prepare, "has_packages", lambda: True)
    engine = prepared_engine(
        make_workload("mlp", n_updates=UPDATES),
        backend="auto",
        batch_sizes={10},
        needs={frozenset()},
        has_open_optimizers=False,
        n_run_updates=0,
    )
    assert engine.backend.name == "compiled"


def test_auto_works_without_a_compiler_and_with_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(monkeypatch, n_run_updates=MANY, compiler=None) == ("vmap", [])
    statistics = make_workload(BATCH_NORM, n_updates=UPDATES)
    assert prepared(monkeypatch, n_run_updates=MANY, workload=statistics) == ("loop", [])


def test_what_cannot_be_compiled_is_a_warning_for_auto_and_an_error_if_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = "workload 'mlp': code cannot be compiled: no space left"
    with pytest.warns(UserWarning, match=f"^{message}; using backend 'vmap'$"):
        assert prepared(monkeypatch, n_run_updates=MANY, error="code cannot be compiled: no space left")[0] == "vmap"
    with pytest.raises(CompilationError, match=f"^backend 'compiled': {message}$"):
        prepared(monkeypatch, backend="compiled", error="code cannot be compiled: no space left")


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "compiler", lambda: None)
    with pytest.raises(
        CompilationError, match=r"no C\+\+ compiler; install g\+\+ or clang\+\+, or name one in the variable"
    ):
        package(lambda x: [x + 1], [torch.zeros(3)])


def test_a_function_that_cannot_be_recorded_is_one_line() -> None:
    message = r"^its operations cannot be recorded: ValueError: .*'no such' \(test_compiled.py:[0-9]+\)$"
    with pytest.raises(CompilationError, match=message):
        package(lambda x: [x + int("no such")], [torch.zeros(3)])


def test_a_compiler_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    packages.compiler.cache_clear()
    try:
        assert packages.compiler() is None
    finally:
        monkeypatch.undo()
        packages.compiler.cache_clear()


def test_networks_with_running_statistics_are_refused() -> None:
    with pytest.raises(ConfigError, match="backend 'compiled' does not support networks that keep running statistics"):
        Engine(make_workload(BATCH_NORM), backend="compiled")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
@pytest.mark.parametrize(
    ("mode", "owner", "fault"),
    [(0o770, 0, "others can write to it"), (0o707, 0, "others can write to it"), (0o700, 1, "belongs to another user")],
)
def test_code_is_never_taken_from_a_folder_of_others(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path, mode: int, owner: int, fault: str
) -> None:
    folder = own_cache / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    user = os.getuid() + owner
    monkeypatch.setattr(os, "getuid", lambda: user)
    with pytest.warns(UserWarning, match=f"compiled: {fault}; compiled code is kept for this process only"):
        private = packages_folder()
    assert own_cache not in private.parents
    assert private.stat().st_mode & 0o077 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert packages_folder() == private  # one warning for each process


def test_so_it_is_with_the_folder_around_it(own_cache: Path) -> None:
    own_cache.mkdir()
    own_cache.chmod(0o777)
    with pytest.warns(UserWarning, match="cache: others can write to it"):
        assert own_cache not in packages_folder().parents


def test_without_a_cache_code_is_kept_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANNO_BENCH_CACHE", "off")
    assert packages_folder().stat().st_mode & 0o077 == 0


def test_a_package_is_named_by_all_that_its_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(value: float = 2.0, n: int = 4, step: int = 1, compiler: str = "g++", dtype: Any = torch.float32) -> str:
        like = torch.zeros(n * step, dtype=dtype)[::step]
        graph, constants = packages.lifted(packages.trace(lambda x: [x * value], [like]))
        return packages._key(graph, [like, *constants], compiler)

    keys = [key(), key(3.0), key(n=5), key(step=2), key(compiler="clang++"), key(dtype=torch.float64)]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    keys.append(key())
    torch.set_num_threads(threads)
    monkeypatch.setenv("TORCHINDUCTOR_CPP_SIMDLEN", "256")
    keys.append(key())
    monkeypatch.undo()
    monkeypatch.setattr(packages, "processor_features", lambda: "another")
    keys.append(key())
    monkeypatch.undo()
    assert len({*keys}) == len(keys)
    assert key() == keys[0]


def test_lifted_constants_keep_their_order() -> None:
    first, second = torch.randn(5, 2), torch.arange(5)
    graph, constants = packages.lifted(
        packages.trace(lambda i: [first[i], second[i]], [torch.zeros(3, dtype=torch.int64)])
    )
    index = torch.tensor([4, 0, 1])
    got = graph(index, *constants)
    assert torch.equal(got[0], first[index])
    assert torch.equal(got[1], second[index])


def test_the_least_recently_used_packages_are_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.pt2" for name in "abc"]
    for age, file in enumerate(files):
        file.write_bytes(b"0" * 100)
        os.utime(file, (1000 - age, 1000 - age))
    monkeypatch.setattr(packages, "MAX_BYTES", 250)
    packages._trim(tmp_path, files[0])
    assert sorted(tmp_path.iterdir()) == files[:2]


def test_smaller_networks_go_together_and_those_whose_bits_would_change_alone() -> None:
    sizes = {}
    for model in ("mlp", "decoder", LARGE_IMAGES):
        engine = make_engine(make_workload(model), "compiled")
        sizes[model] = runs_together(engine.backend.model, engine.example())
    assert sizes == {"mlp": 16, "decoder": 8, LARGE_IMAGES: 1}
    engine = make_engine(make_workload("mlp"), "vmap")
    flops = update_flops(engine.backend.model, engine.example())
    assert flops == 6 * 10 * sum(p.numel() for p in engine.backend.model.parameters() if p.dim() > 1)


def test_the_updates_that_repay_compiling() -> None:
    network, inputs = nn.Linear(20, 10), torch.zeros(10, 20)
    flops = 3 * 2 * 10 * 20 * 10  # one product forward, two backward
    assert updates_to_repay(network, inputs, "loop") == math.ceil(10.4 / 3e-5)  # one operation
    assert updates_to_repay(network, inputs, "vmap") == math.ceil(10.4 / (7e-7 + flops * 8e-12))
    deep = nn.Sequential(*(nn.Sigmoid() for _ in range(1000)))
    assert updates_to_repay(deep, inputs, "loop") == math.ceil(40 / (1000 * 3e-5))
    assert updates_to_repay(nn.Linear(2000, 20_000), torch.zeros(1, 2000), "vmap") == math.ceil(10.4 / (7e-7 + 3e-4))


def test_short_runs_of_a_workload_repay_compiling_together(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setattr(prepare, "compiler", lambda: "a compiler")
    monkeypatch.setattr(prepare, "updates_to_repay", lambda *_: 1000)
    monkeypatch.setattr(compiled, "package", replayed)
    monkeypatch.setattr(packages, "has_packages", lambda: False)

    def backend(n_run_updates: int, batch_size: int = 10) -> str:
        return prepared_engine(
            make_workload("mlp", batch_size=batch_size),
            backend="auto",
            batch_sizes={batch_size},
            needs={frozenset()},
            has_open_optimizers=False,
            n_run_updates=n_run_updates,
        ).backend.name

    assert [backend(400) for _ in range(4)] == ["vmap", "vmap", "compiled", "compiled"]
    assert backend(400, batch_size=11) == "vmap"  # other code
    (file, _) = sorted((own_cache / "updates").iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    file.write_text("damaged \xff 9\n", encoding="latin-1")
    assert backend(400) == "vmap"
    monkeypatch.setenv("GANNO_BENCH_CACHE", "off")
    assert [backend(400) for _ in range(4)] == ["vmap"] * 4


def test_chunks_are_filled_to_whole_groups() -> None:
    engine = make_engine(make_workload("mlp"), "compiled")
    engine.chunk = 64
    assert [chunk.n_rows for chunk in engine.population(range(70))._chunks] == [48, 32]
    assert [chunk.n_rows for chunk in engine.population(range(10))._chunks] == [16]

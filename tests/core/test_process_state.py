"""Changes of a plugin to settings of the whole process are restored and named."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ganno_bench.core.errors import PluginError
from ganno_bench.core.process_state import DisturbanceError, Process, apart, undisturbed


def denormal() -> float:
    return np.finfo(np.float64).tiny.item() / 2


def settings() -> dict[str, Any]:
    """Return the shared settings, read by other functions than the guard's if there are any."""
    return {
        "dtype and device": (torch.zeros(1).dtype, torch.zeros(1).device),
        "grad": torch.ones(1, requires_grad=True).mul(1).requires_grad,
        "inference": torch.zeros(1).is_inference(),
        "modes": (torch.get_num_threads(), torch.is_anomaly_enabled(), torch.are_deterministic_algorithms_enabled()),
        "precision": (torch.get_float32_matmul_precision(), torch.backends.mkldnn.matmul.fp32_precision),
        "cuda": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cuda.math_sdp_enabled()),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "autocast": torch.mm(torch.eye(2), torch.eye(2)).dtype,
        "denormal": denormal(),
        "numpy": np.geterr(),
        "folder": os.getcwd(),
    }


def draws() -> tuple[float, ...]:
    """Return the next random numbers of each generator, without advancing it."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    drawn = (float(torch.rand(())), float(np.random.rand()), random.random())
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    return drawn


_open: list[Any] = []


def leave_open(context: Any) -> None:
    context.__enter__()
    _open.append(context)  # Python would exit a context that it collects as garbage


class Raising(TorchFunctionMode):
    def __torch_function__(self, *arguments: Any) -> Any:
        raise ValueError("of a mode that was left open")


class Doubling(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return 2 * function(*args, **(kwargs or {}))


CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        "PyTorch's default dtype from torch.float32 to torch.float64",
    ),
    "device": (lambda: torch.set_default_device("meta"), "PyTorch's default device from None to meta"),
    "device-context": (lambda: torch.device("meta").__enter__(), "PyTorch's default device from None to meta"),
    "functions": (lambda: Raising().__enter__(), "the number of PyTorch's open modes from 0 to 1"),
    "operators": (lambda: Doubling().__enter__(), "the number of PyTorch's open modes from 0 to 1"),
    "threads": (lambda: torch.set_num_threads(7), "PyTorch's number of threads from 1 to 7"),
    "grad": (lambda: torch.set_grad_enabled(False), "PyTorch's grad mode from True to False"),
    "inference": (lambda: leave_open(torch.inference_mode()), "PyTorch's inference mode from False to True"),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), "PyTorch's anomaly detection from False to True"),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True),
        "PyTorch's deterministic algorithms from 0 to 2",
    ),
    "denormals": (lambda: torch.set_flush_denormal(True), "flushing of denormal numbers from False to True"),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), "of 'matmul' from highest to medium"),
    "mkldnn": (
        lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
        "PyTorch's float32 precision of 'mkldnn matmul' from none to bf16",
    ),
    "tf32": (lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True), "of 'cuda matmul' from none to tf32"),
    "attention": (lambda: torch.backends.cuda.enable_math_sdp(False), "attention of 'math' from True to False"),
    "cudnn": (lambda: setattr(torch.backends.cudnn, "benchmark", True), "cuDNN's benchmark mode from False to True"),
    "autocast": (
        lambda: torch.autocast("cpu", torch.bfloat16).__enter__(),
        "PyTorch's autocast on cpu from False to True",
    ),
    "numpy": (lambda: np.seterr(divide="raise"), "floating-point errors of 'divide' from warn to raise"),
    "folder": (lambda: os.chdir("/"), "the current folder from "),
}


@pytest.mark.parametrize(("change", "name"), CHANGES.values(), ids=CHANGES)
def test_what_is_changed_is_put_back_and_named(change: Callable[[], object], name: str) -> None:
    before = settings()
    with (
        pytest.raises(DisturbanceError, match=f"^it changed .*{re.escape(name)}.*, shared by the whole process$"),
        undisturbed("it", may_draw=True),
    ):
        change()
    assert settings() == before


@pytest.mark.parametrize(("change", "name"), CHANGES.values(), ids=CHANGES)
def test_the_quick_look_sees_it_too(change: Callable[[], object], name: str) -> None:
    before = settings()
    with Process() as process:
        process.check("it")
        change()
        with pytest.raises(DisturbanceError, match=re.escape(name)):
            process.check("it")
        assert settings() == before
        process.check("it")


DRAWS: dict[str, tuple[Callable[[], object], str]] = {
    "torch": (lambda: torch.rand(1), "PyTorch"),
    "torch-seed": (lambda: torch.manual_seed(3), "PyTorch"),
    "numpy": (lambda: np.random.rand(), "NumPy"),
    "numpy-seed": (lambda: np.random.seed(3), "NumPy"),
    "python": (random.random, "Python"),
    "python-seed": (lambda: random.seed(3), "Python"),
}


@pytest.mark.parametrize(("draw", "whose"), DRAWS.values(), ids=DRAWS)
def test_random_numbers_are_put_back_and_named_where_none_may_be_drawn(draw: Callable[[], object], whose: str) -> None:
    before = draws()
    with undisturbed("it", may_draw=True):
        draw()
    assert draws() == before
    with (
        pytest.raises(
            DisturbanceError,
            match=f"^it drew from or seeded the global random numbers of {whose}, shared by .*; use a separate",
        ),
        undisturbed("it"),
    ):
        draw()
    assert draws() == before


def test_several_changes_are_all_named() -> None:
    @undisturbed("it")
    def change() -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        random.seed(0)

    before, drawn = settings(), draws()
    with pytest.raises(DisturbanceError) as caught:
        change()
    assert str(caught.value) == (
        "it changed PyTorch's default dtype from torch.float32 to torch.float64 and PyTorch's grad mode from True to "
        "False and drew from or seeded the global random numbers of Python, shared by the whole process; "
        "use a separate random generator"
    )
    assert (settings(), draws()) == (before, drawn)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_error_is_passed_on_and_everything_put_back(error: BaseException) -> None:
    @undisturbed("it")
    def fail() -> None:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(3)
        raise error

    before, drawn = settings(), draws()
    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert (settings(), draws()) == (before, drawn)


def test_a_plugin_cannot_end_the_process() -> None:
    with (
        pytest.raises(PluginError, match=r"^it raised SystemExit: 0 \(test_process_state\.py:\d+\)$"),
        undisturbed("it"),
    ):
        raise SystemExit(0)


def test_a_folder_that_is_gone_is_nobodys_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with undisturbed("it"):
        pass


def test_threads_wait_for_one_another() -> None:
    """Otherwise the guard would blame one thread for the draws of another, or restore its random numbers."""
    inside, order = threading.Event(), []

    def other() -> None:
        inside.wait()
        with undisturbed("the other"):
            order.append("the other")

    thread = threading.Thread(target=other)
    thread.start()
    with undisturbed("it", may_draw=True):
        inside.set()
        torch.rand(1)
        thread.join(0.05)
        order.append("it")
    thread.join()
    assert order == ["it", "the other"]


def test_what_is_apart_gets_a_copy() -> None:
    values = [torch.zeros(2)]

    def change(given: list[torch.Tensor]) -> torch.Tensor:
        """Change it."""
        return given[0].fill_(1.0)

    guarded = apart("it", change)
    assert guarded(values).tolist() == [1.0, 1.0]
    assert values[0].tolist() == [0.0, 0.0]
    assert guarded.__doc__ == "Change it."

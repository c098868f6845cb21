"""Guard the settings that the whole process shares: read them before a plugin runs, restore them after it.

PyTorch and NumPy keep the default dtype, the number of threads, the grad mode, random number generators and more for
the whole process. If a plugin changes one of them, later code gives other results. So the guard restores the setting
and raises an error that names the plugin. The guard ignores settings that change no result or that libraries change on
import: warning filters, environment variables, loggers. Guarded code runs in one thread at a time. If another thread of
the user draws global random numbers meanwhile, the guard blames the plugin.
"""

from __future__ import annotations

import copy
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode

from ganno_bench.core.errors import PluginError, one_line

__all__ = ["DisturbanceError", "Process", "apart", "undisturbed"]

A = TypeVar("A")
R = TypeVar("R")


class DisturbanceError(PluginError):
    """A plugin changed a setting of the whole process; the setting has been restored."""


@dataclass(frozen=True)
class _Setting:
    """A setting of the process: its name, a function that reads it, and one that sets it to an earlier reading."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], object]


_open_modes: list[torch.inference_mode] = []
"""Contexts that stay entered; Python would exit a context when it collects it as garbage."""


def _set_inference_mode(enabled: bool) -> None:
    mode = torch.inference_mode(enabled)
    mode.__enter__()
    _open_modes.append(mode)


def _default_device() -> torch.device | None:
    # The default device is a mode on the stack. Without one, get_default_device() would cost 2 microseconds.
    return torch.get_default_device() if torch._C._len_torch_function_stack() else None


def _open_contexts() -> tuple[int, int]:
    """Return the number of PyTorch's open function modes and of its open dispatch modes."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _name_contexts(n_open: tuple[int, int]) -> str:
    """Describe the modes that were opened or closed since `n_open` of them were open."""
    now = _open_contexts()
    modes = [torch._C._get_function_stack_at(index) for index in range(n_open[0], now[0])]
    if now[1] == n_open[1] and modes and all(isinstance(mode, DeviceContext) for mode in modes):
        return f"PyTorch's default device{_from_to(None, modes[-1].device)}"
    return f"the number of PyTorch's open modes{_from_to(sum(n_open), sum(now))}"


def _close_contexts(n_open: tuple[int, int]) -> None:
    with suppress(Exception):  # an open mode may raise
        torch.set_default_device(None)  # removes the mode; `restore` sets the earlier default device
    while torch._C._len_torch_function_stack() > n_open[0]:
        torch._C._pop_torch_function_stack()
    while torch._C._len_torch_dispatch_stack() > n_open[1]:
        mode = torch._C._get_dispatch_stack_at(torch._C._len_torch_dispatch_stack() - 1)
        TorchDispatchMode.__exit__(mode, None, None, None)  # type: ignore[no-untyped-call]


_PRECISIONS = {
    f"{backend} {operation}": (backend, operation)
    for backend, operations in {
        "generic": ("all",),
        "cuda": ("all", "matmul", "conv"),
        "mkldnn": ("all", "matmul", "conv"),
    }.items()
    for operation in operations
}


with warnings.catch_warnings():  # PyTorch 2.9 warns once about newer settings
    warnings.simplefilter("ignore", UserWarning)
    torch.get_float32_matmul_precision()


def _precision() -> dict[str, str]:
    precision = {name: torch._C._get_fp32_precision_getter(*key) for name, key in _PRECISIONS.items()}
    with suppress(RuntimeError):  # the older setting and the newer ones contradict each other
        precision["matmul"] = torch.get_float32_matmul_precision()
    return precision


def _set_precision(precision: Mapping[str, str]) -> None:
    if "matmul" in precision:
        torch.set_float32_matmul_precision(precision["matmul"])  # also sets some of the others
    for name, key in _PRECISIONS.items():
        torch._C._set_fp32_precision_setter(*key, precision[name])


def _flushes_denormals(smallest_normal: float = sys.float_info.min) -> bool:
    return smallest_normal / 2 == 0.0  # PyTorch has no function that reads this setting


def _attention() -> dict[str, bool]:
    return {  # the CPU uses these settings, too
        "flash": torch._C._get_flash_sdp_enabled(),
        "memory-efficient": torch._C._get_mem_efficient_sdp_enabled(),
        "math": torch._C._get_math_sdp_enabled(),
        "cudnn": torch._C._get_cudnn_sdp_enabled(),
    }


def _set_attention(kernels: Mapping[str, bool]) -> None:
    torch._C._set_sdp_use_flash(kernels["flash"])
    torch._C._set_sdp_use_mem_efficient(kernels["memory-efficient"])
    torch._C._set_sdp_use_math(kernels["math"])
    torch._C._set_sdp_use_cudnn(kernels["cudnn"])


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was deleted
        return None


def _set_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


_SETTINGS = (
    _Setting("PyTorch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("PyTorch's default device", _default_device, torch.set_default_device),
    _Setting("PyTorch's number of threads", torch.get_num_threads, torch.set_num_threads),
    _Setting("PyTorch's inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    _Setting("PyTorch's grad mode", torch.is_grad_enabled, torch._C._set_grad_enabled),
    _Setting("PyTorch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Setting(
        "PyTorch's deterministic algorithms", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    ),
    _Setting("PyTorch's flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal),
    _Setting("PyTorch's float32 precision", _precision, _set_precision),
    _Setting("PyTorch's kernels of attention", _attention, _set_attention),
    _Setting("cuDNN's benchmark mode", torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
    _Setting("cuDNN's deterministic mode", torch._C._get_cudnn_deterministic, torch._C._set_cudnn_deterministic),
    *(
        setting
        for device in ("cpu", "cuda")
        for setting in (
            _Setting(
                f"PyTorch's autocast on {device}",
                partial(torch.is_autocast_enabled, device),
                partial(torch.set_autocast_enabled, device),
            ),
            _Setting(
                f"PyTorch's autocast dtype on {device}",
                partial(torch.get_autocast_dtype, device),
                partial(torch.set_autocast_dtype, device),
            ),
        )
    ),
    _Setting("NumPy's handling of floating-point errors", np.geterr, lambda handling: np.seterr(**handling)),
    _Setting("the current folder", _folder, _set_folder),
)


def _torch_random() -> bytes:
    return torch.default_generator.get_state().numpy().tobytes()


def _set_torch_random(state: bytes) -> None:
    torch.default_generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _cuda_random() -> list[bytes] | None:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None  # no random numbers can have been drawn
    return [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]


def _set_cuda_random(states: Sequence[bytes]) -> None:
    for device, state in enumerate(states):
        torch.cuda.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8), device)


def _numpy_random() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    kind, keys, *rest = state
    return (kind, keys.tobytes(), *rest)


def _set_numpy_random(state: tuple[Any, ...]) -> None:
    kind, keys, *rest = state
    np.random.set_state((kind, np.frombuffer(keys, dtype=np.uint32), *rest))


_TORCH_RANDOM = _Setting("PyTorch", _torch_random, _set_torch_random)
_RANDOM = (
    _TORCH_RANDOM,
    _Setting("PyTorch on CUDA", _cuda_random, _set_cuda_random),
    _Setting("NumPy", _numpy_random, _set_numpy_random),
    _Setting("Python", random.getstate, random.setstate),
)


_one_at_a_time = threading.RLock()
"""Held while a plugin's code runs, because the guard cannot distinguish its changes from those of another thread."""


class Process:
    """A context that reads the state of the process when it begins, and restores it when an error ends it."""

    def __enter__(self) -> Self:
        _one_at_a_time.acquire()
        self._contexts = _open_contexts()
        self._settings = [setting.get() for setting in _SETTINGS]
        self._random = [numbers.get() for numbers in _RANDOM]
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is not None:
                self.restore()
        finally:
            _one_at_a_time.release()

    def check(self, what: str) -> None:
        """Check whether a setting was changed, and restore all settings if so; takes about 6 microseconds.

        Only `check_all` checks the random numbers of NumPy and Python.

        Args:
            what: The code that ran, for messages: `scheduler 'mine': step`.

        Raises:
            DisturbanceError: A setting was changed; the message names it.
        """
        if (
            _open_contexts() != self._contexts
            or [setting.get() for setting in _SETTINGS] != self._settings
            or _torch_random() != self._random[0]
        ):
            self.check_all(what)

    def check_all(self, what: str, *, may_draw: bool = False) -> None:
        """Check and restore all settings and all random numbers; takes about 50 microseconds.

        Args:
            what: See `check`.
            may_draw: Whether the code may draw from or seed global random numbers. They are restored in any case.

        Raises:
            DisturbanceError: A setting was changed, or random numbers were drawn; the message names them.
        """
        changed, drawn = self.restore()
        parts = [f"changed {' and '.join(changed)}"] if changed else []
        if drawn and not may_draw:
            parts.append(f"drew from or seeded the global random numbers of {' and '.join(drawn)}")
        if parts:
            fix = "; use a separate random generator" if drawn and not may_draw else ""
            raise DisturbanceError(f"{what} {' and '.join(parts)}, shared by the whole process{fix}")

    def restore(self) -> tuple[list[str], list[str]]:
        """Restore everything; return descriptions of the changes, and whose random numbers were drawn."""
        changed, drawn = [], []
        # First, because an open mode may change what the other functions return.
        if _open_contexts() != self._contexts:
            changed.append(_name_contexts(self._contexts))
            _close_contexts(self._contexts)
        found = [setting.get() for setting in _SETTINGS]
        for setting, before, after in zip(_SETTINGS, self._settings, found, strict=True):
            if after != before:
                changed.append(f"{setting.name}{_from_to(before, after)}")
        for setting, before in zip(_SETTINGS if changed else (), self._settings, strict=False):
            if setting.get() != before:  # read again: one setting may be part of another
                setting.set(before)
        for numbers, before in zip(_RANDOM, self._random, strict=True):
            if before is not None and numbers.get() != before:
                numbers.set(before)
                drawn.append(numbers.name)
        return changed, drawn


def _from_to(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        differing = [key for key in before if after.get(key, before[key]) != before[key]]
        return " " + ", ".join(f"of {key!r}{_from_to(before[key], after[key])}" for key in differing)
    return f" from {before} to {after}"


@contextmanager
def undisturbed(what: str, *, may_draw: bool = False) -> Iterator[Process]:
    """Run a plugin's code and restore all settings of the process afterwards.

    Args:
        what: The code that runs, for messages: `scheduler 'mine': step`.
        may_draw: Whether the code may draw from or seed global random numbers. They are restored in any case.

    Yields:
        The `Process`. Call its `check` in between to locate a change more precisely.

    Raises:
        DisturbanceError: The code changed a setting of the process.
        PluginError: The code raised `SystemExit` or a similar exception.
    """
    with Process() as process:
        try:
            yield process
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise PluginError(f"{what} raised {one_line(error)}") from error
        process.check_all(what, may_draw=may_draw)


def apart(what: str, function: Callable[[A], R]) -> Callable[[A], R]:
    """Wrap a plugin's function so that it runs in `undisturbed`, on a copy of its argument; adds 0.3 milliseconds.

    Args:
        what: See `undisturbed`.
        function: The function.
    """

    @wraps(function)
    def guarded(argument: A) -> R:
        with undisturbed(what):
            return function(copy.deepcopy(argument))

    return guarded

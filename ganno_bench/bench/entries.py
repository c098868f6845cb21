"""Load the entries of a run, and confine errors in an entry's code to that entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ganno_bench.core.errors import ConfigError, PluginError, UserError, one_line
from ganno_bench.core.process_state import undisturbed
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler

__all__ = ["code_of", "load_entries", "space_of"]


def load_entries(refs: Sequence[str]) -> tuple[list[SchedulerEntry], dict[str, PluginError]]:
    """Load schedulers; return those that load, and reference -> error of those that do not.

    Raises:
        UserError: A reference is malformed or unknown, two entries have the same name, or no entry can be loaded.
    """
    entries: dict[str, SchedulerEntry] = {}
    broken: dict[str, PluginError] = {}
    for ref in refs:
        try:
            entry = load_scheduler(ref)
        except PluginError as error:
            broken[ref] = error
            continue
        except UserError:
            raise
        except Exception as error:  # raised by the plugin's code
            broken[ref] = PluginError(f"scheduler {ref!r} cannot be loaded: {one_line(error)}")
            broken[ref].__cause__ = error
            continue
        if entry.name in entries and entries[entry.name].cls is not entry.cls:
            both = f"{entries[entry.name].ref!r} and {ref!r}"
            raise ConfigError(f"two schedulers are named {entry.name!r}: {both}; rename one, or leave it out")
        entries[entry.name] = entry
    if not entries:
        raise PluginError("; ".join(map(str, broken.values())))
    return list(entries.values()), broken


@contextmanager
def code_of(entry: SchedulerEntry) -> Iterator[None]:
    """Turn any exception of an entry's code, and any change that it makes to the process, into a failure of the entry.

    Raises:
        PluginError: The code raised an exception or changed the process.
    """
    name = f"scheduler {entry.name!r}"
    try:
        with undisturbed(f"{name}: its code", may_draw=True):
            yield
    except PluginError:
        raise
    except UserError as error:  # its class rejects a configuration from its own search space
        what = str(error).removeprefix(f"{name}: ").removeprefix(f"scheduler {entry.ref!r}: ")
        raise PluginError(f"{name} cannot be run: {what}") from error
    except Exception as error:  # an entry can return anything to the engine
        raise PluginError(f"{name} cannot be run: {one_line(error)}") from error


@contextmanager
def space_of(entry: SchedulerEntry) -> Iterator[None]:
    """Turn Optuna's errors about an entry's search space into a failure of that entry.

    Errors of the storage concern all entries and are passed on.

    Raises:
        PluginError: Optuna cannot use the search space.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PluginError(f"scheduler {entry.name!r} cannot be tuned: {one_line(error)}") from error

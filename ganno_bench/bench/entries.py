"""The entries of a run, and whose failure it is when something goes wrong in the code of one: its own alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ganno_bench.core.errors import ConfigError, PluginError, UserError, one_line
from ganno_bench.core.process_state import undisturbed
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler

__all__ = ["code_of", "load_entries", "space_of"]


def load_entries(refs: Sequence[str]) -> tuple[list[SchedulerEntry], dict[str, PluginError]]:
    """Load schedulers; return those that work, and the errors of those that don't, by reference.

    Raises:
        UserError: A reference is malformed or names nothing, two entries have one name, or none can be loaded.
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
        except Exception as error:  # out of its code
            broken[ref] = PluginError(f"scheduler {ref!r} cannot be loaded: {one_line(error)}")
            broken[ref].__cause__ = error
            continue
        if entry.name in entries and entries[entry.name].cls is not entry.cls:
            raise ConfigError(f"two schedulers go by the name {entry.name!r}: {entries[entry.name].ref!r} and {ref!r}")
        entries[entry.name] = entry
    if not entries:
        raise PluginError("; ".join(map(str, broken.values())))
    return list(entries.values()), broken


@contextmanager
def code_of(entry: SchedulerEntry) -> Iterator[None]:
    """Make whatever an entry's code raises or does to the process a failure of that entry, and of no other.

    Raises:
        PluginError: It did.
    """
    name = f"scheduler {entry.name!r}"
    try:
        with undisturbed(f"{name}: its code", may_draw=True):
            yield
    except PluginError:
        raise
    except UserError as error:  # its class refuses a configuration out of its own search space
        raise PluginError(f"{name} cannot be run: {error}") from error
    except Exception as error:  # there is no end to what the engine can be given
        raise PluginError(f"{name} cannot be run: {one_line(error)}") from error


@contextmanager
def space_of(entry: SchedulerEntry) -> Iterator[None]:
    """Make what Optuna cannot do with an entry's search space a failure of that entry.

    What is wrong with the storage is everybody's, and passed on.

    Raises:
        PluginError: It cannot.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PluginError(f"scheduler {entry.name!r} cannot be tuned: {one_line(error)}") from error

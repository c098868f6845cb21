"""Find and open a dataset: embedded, in a folder, or on the Hugging Face hub. All become `datasets.Dataset`."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ganno_bench.core.errors import DatasetError, GannoBenchError, PluginError, did_you_mean, one_line
from ganno_bench.workloads.embedded import EMBEDDED, load_maker
from ganno_bench.workloads.folders import Folder, load_folder
from ganno_bench.workloads.suite import DatasetSpec

__all__ = ["Listed", "Source", "data_directories", "is_here", "list_datasets", "open_source"]

T = TypeVar("T")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_TIMEOUT_SECONDS = 5


def data_directories(options: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the data folders, in which datasets are looked up by name: `options`, then those of GANNO_BENCH_DATA.

    Args:
        options: Values of `--data-dir`.

    Raises:
        DatasetError: A data folder does not exist.
    """
    variable = os.environ.get("GANNO_BENCH_DATA", "").split(os.pathsep)
    given = [("--data-dir", _expand(path)) for path in options]
    given += [("GANNO_BENCH_DATA", _expand(path)) for path in variable if path]
    for origin, path in given:
        if not path.is_dir():
            raise DatasetError(f"{origin}: data folder {str(path)!r} does not exist")
    return tuple(path for _, path in given)


class Listed(NamedTuple):
    """A dataset on this machine, with the name that a suite gives as `source`."""

    name: str
    where: str
    description: str


def list_datasets(options: Sequence[Path] = ()) -> list[Listed]:
    """Return the embedded datasets and the folders in the data folders.

    Args:
        options: Values of `--data-dir`.

    Raises:
        DatasetError: A data folder does not exist.
    """
    rows = [Listed(name, entry.source, _describe(name)) for name, entry in EMBEDDED.entries().items()]
    for base in data_directories(options):
        rows += [Listed(name, str(base), "folder in hub layout") for name in _folder_names(base)]
    return rows


@dataclass(frozen=True)
class Source:
    """A dataset as it was found.

    Attributes:
        origin: Kind and place, for messages.
        splits: Name -> `datasets.Dataset`.
        registered: Whether a registered function made the splits; its split `validation` is then used as such.
        inside: Folders of the image files that rows may refer to; None: any file may be read.
        layout: Where a folder has its splits, for messages; None for other sources.
        found: A note on the splits that were found, for messages, or empty.
    """

    origin: str
    splits: Mapping[str, Any]
    registered: bool = False
    inside: tuple[Path, ...] | None = None
    layout: str | None = None
    found: str = ""


def open_source(spec: DatasetSpec, data_dirs: Sequence[Path], suite_dir: Path | None) -> Source:
    """Find a dataset: registered, a folder by its path, a folder by its name, or on the hub, in this order.

    Args:
        spec: Declaration with the source.
        data_dirs: Folders in which a name is looked up. For a hub id, both `owner/name` and `name` are tried; `-` and
            `_` are equal.
        suite_dir: Folder to which a relative path may be relative, in addition to the current directory.

    Raises:
        DatasetError: The dataset is not found, or cannot be read.
        PluginError: The function of a registered dataset raised an exception, or did not return a mapping.
    """
    source = spec.source
    if source in EMBEDDED.entries() or ".py:" in source:
        return Source(f"embedded dataset {source!r}", _call(source), registered=True)
    folder = _find_folder(source, data_dirs, suite_dir)
    if folder is None and spec.folder is not None:
        folder = _find_folder(spec.folder, data_dirs, suite_dir)
    if folder is not None:
        content = _read_folder(folder, spec.config)
        # In the hub's cache, the files of a folder are links to a common place of all its versions. The files of an
        # image folder were listed, so links among them are intended. A path in a row can be anything.
        home = folder.parent.parent if folder.parent.name == "snapshots" else folder
        inside = None if content.has_classes else (home,)
        return Source(
            f"folder {str(folder)!r}", content.splits, inside=inside, layout=content.layout, found=content.found
        )
    path = _expand(source)
    if path.is_absolute():
        neighbours = _folder_names(path.parent) if path.parent.is_dir() else []
        raise DatasetError(f"folder {source!r} does not exist{did_you_mean(path.name, neighbours)}")
    known = {*EMBEDDED.entries(), *(name for base in data_dirs for name in _folder_names(base))}
    nearest = did_you_mean(source.rpartition("/")[2], known)
    places = ["the current directory", *(repr(str(base)) for base in (suite_dir, *data_dirs) if base is not None)]
    missing = f"{source!r} is neither an embedded dataset nor in a data folder (searched: {', '.join(places)})"
    if _HUB_ID.fullmatch(source):
        return Source(f"hub dataset {source!r}", _read_hub(spec, missing, nearest), inside=_hub_caches())
    raise DatasetError(f"{missing}, nor a hub id (owner/name){nearest}")


def is_here(spec: DatasetSpec) -> bool:
    """Whether a dataset is embedded or in the folders of GANNO_BENCH_DATA, so that nothing is downloaded for it."""
    names = [name for name in (spec.source, spec.folder) if name is not None]
    return spec.source in EMBEDDED.entries() or any(_find_folder(name, data_directories(), None) for name in names)


def _describe(name: str) -> str:
    try:
        return (inspect.getdoc(load_maker(name)) or "").partition("\n")[0]
    except PluginError as error:
        return str(error)


def _expand(path: str | Path) -> Path:
    # Unlike Path.expanduser, this does not raise for an unknown user.
    return Path(os.path.expanduser(path))


def _folder_names(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))


def _call(source: str) -> Mapping[str, Any]:
    function = load_maker(source)
    try:
        splits = function()
    except GannoBenchError:
        raise
    except Exception as error:
        raise PluginError(f"dataset {source!r} raised {one_line(error)}") from error
    if not isinstance(splits, Mapping):
        raise PluginError(f"dataset {source!r} must return a mapping of splits (found: {type(splits).__name__})")
    return splits


def _find_folder(source: str, data_dirs: Sequence[Path], suite_dir: Path | None) -> Path | None:
    path = _expand(source)
    candidates = [path] if suite_dir is None else [path, suite_dir / path]
    is_name = path.name == source or _HUB_ID.fullmatch(source)
    for base in data_dirs if is_name else ():
        candidates.append(base / path)
        name = path.name.replace("-", "_")
        candidates += sorted(folder for folder in base.iterdir() if folder.name.replace("-", "_") == name)
    return next((folder for folder in candidates if folder.is_dir()), None)


def _read_folder(folder: Path, config: str | None) -> Folder:
    return _read(
        lambda: load_folder(folder, config),
        lambda error: f"folder {str(folder)!r} cannot be read: {_first_cause(error)}",
    )


def _read_hub(spec: DatasetSpec, missing: str, nearest: str) -> Mapping[str, Any]:
    import datasets

    copy = f"put a copy in hub layout, as folder {spec.source.rpartition('/')[2]!r}, into a folder of --data-dir"

    def read() -> Any:
        with _offline_if_unreachable():
            return datasets.load_dataset(spec.source, name=spec.config, revision=spec.revision)

    def explain(error: Exception) -> str:
        if isinstance(error, ConnectionError):
            return f"{missing}, and the Hugging Face hub cannot be reached; {copy}{nearest}"
        if isinstance(error, datasets.exceptions.DatasetNotFoundError):
            return f"{missing}, nor on the Hugging Face hub: {_first_cause(error)}{nearest}"
        if "scripts are no longer supported" in str(error):
            return (
                f"hub dataset {spec.source!r} needs a loading script, which `datasets` no longer runs; set 'revision' "
                f"to one with data files, such as 'refs/convert/parquet', or {copy}"
            )
        return f"hub dataset {spec.source!r} cannot be read: {_first_cause(error)}"

    return _read(read, explain)


def _read(read: Callable[[], T], explain: Callable[[Exception], str]) -> T:
    with _quiet():
        try:
            return read()
        except DatasetError:
            raise
        except Exception as error:  # `datasets` and its readers raise various exceptions for broken files
            message = explain(error)
    # A partly read Parquet file that lives until the interpreter ends aborts it (apache/arrow#45214). So neither this
    # exception nor garbage may keep the file alive.
    gc.collect()
    raise DatasetError(message)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars, logs and warnings of `datasets`; errors contain the same information."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        had_bars = not datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if had_bars:
                datasets.enable_progress_bars()


def _hub_caches() -> tuple[Path, ...]:
    """Return the folders with the files of hub datasets."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    places = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE)
    return tuple(Path(place) for place in places)


@contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    """Let `datasets` use only its cache if the hub does not answer; otherwise it would retry for half a minute."""
    import datasets
    from huggingface_hub import get_session

    was_offline = datasets.config.HF_HUB_OFFLINE
    try:
        if not was_offline:
            get_session().head(datasets.config.HF_ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
    except Exception:  # the type depends on the HTTP library, which depends on the version
        datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = was_offline


def _first_cause(error: Exception) -> str:
    """Return type and message of an error's first cause, on one line of limited length."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}"

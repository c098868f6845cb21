"""Read folders in hub layout: assign files to splits, and images to classes.

`datasets` could do this itself, but it accepts the name of a split anywhere in a path. So training images of a class
called `test` would become test images. It also reads a folder called `[1]` as a pattern. So this module lists the files
by the rules below and passes the list to `datasets`.

- If the `README.md` declares `data_files`, only these files are used.
- Otherwise the first level that names a split decides: the folder itself, then the folder `data` in it, or its only
  subfolder, and so on. At a level, shards in `data` (`train-00000-of-00001.parquet`) come first, then folders, then
  files. A file in a folder that is named after a split belongs to this split, with any name. A file or folder that is
  named after no split, or after two, belongs to none.
- The class of an image is the name of the folder directly below the folder of its split, at any depth of the image.
"""

from __future__ import annotations

import glob
import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ganno_bench.core.config import content_hash
from ganno_bench.core.errors import DatasetError

__all__ = ["Folder", "load_folder"]

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Word in a name -> the split that it stands for."""
_READERS = ("arrow", "csv", "imagefolder", "json", "parquet", "text")
"""Readers of `datasets` for texts, images and labels."""
_SHARD = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}.*\.\w+")
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files with labels and other data of the images in their folder."""
_NO_DATA = ("README.md", "config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")


class _File(NamedTuple):
    """A file of a split, and for an image the folder whose subfolders are the classes."""

    path: Path
    root: Path


class _Format(NamedTuple):
    """The reader of `datasets` for a file, and its options."""

    reader: str
    options: tuple[tuple[str, Any], ...]


_Layout = Mapping[str, Sequence[_File]]
_EXPECTED = "as folders (train/, test/) or as files (train.csv, test.csv)"
_DECLARED = "under 'data_files' in its README.md"


class Folder(NamedTuple):
    """The content of a folder.

    Attributes:
        splits: Split -> `datasets.Dataset`.
        has_classes: Whether the data are image files in class folders; otherwise rows, which may refer to files.
        layout: Where a folder of this kind has its splits, for messages.
        found: A note on the splits that were found, for messages, or empty.
    """

    splits: Mapping[str, Any]
    has_classes: bool
    layout: str
    found: str


def load_folder(folder: Path, config: str | None) -> Folder:
    """Read a folder.

    Args:
        folder: A folder in hub layout.
        config: Configuration to read; if the folder has no such configuration, its default one.

    Raises:
        DatasetError: The folder does not match its declaration, has several formats, or has no data files.
        Exception: `datasets` and its readers may raise other exceptions.
    """
    folder = folder.resolve()  # as `datasets` does, so that the paths that it returns are the same
    options, info = _declaration(folder, config)
    base = folder / _inside(options.get("data_dir", ""), "data_dir", folder)
    is_declared = "data_files" in options
    layout = _declared(options["data_files"], base, folder) if is_declared else _by_name(base)
    # Only without any name of a split does `_by_name` take the folder itself as the place of a split.
    is_named = is_declared or all(file.root != base for files in layout.values() for file in files)
    form, layout = _of_one_format(layout, folder)
    has_classes = form.reader == "imagefolder" and "drop_labels" not in options and not _has_metadata(layout)
    options = {key: value for key, value in options.items() if key not in ("data_dir", "data_files", "default")}
    if has_classes:
        options["drop_labels"] = True
    elif info is not None and form.reader != "imagefolder":
        options.setdefault("features", info.features)
    splits = _read(form.reader, layout, {**dict(form.options), **options}, content_hash(str(info)))
    if info is not None and info.splits is not None:
        _check_sizes(splits, info.splits, folder)
    return Folder(
        _labelled(splits, layout, folder) if has_classes else splits,
        has_classes,
        _DECLARED if is_declared else _EXPECTED,
        "" if is_named else ", with all files, because no file or folder is named after a split",
    )


def _declaration(folder: Path, config: str | None) -> tuple[dict[str, Any], Any]:
    """Return what the `README.md` declares for a configuration: options of the reader, and a `DatasetInfo` or None."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    card = folder / "README.md"
    configs = MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data if card.is_file() else {})
    infos = DatasetInfosDict.from_directory(str(folder))
    # A local copy of one configuration of a hub dataset may have another name.
    if config not in (*configs, *infos):
        config = configs.get_default_config_name()
        if config is None and configs:
            raise DatasetError(
                f"folder {str(folder)!r} has several configurations; set 'config' to one of them ({', '.join(configs)})"
            )
        if config is None and len(infos) == 1:
            (config,) = infos
    return dict(configs.get(config, {})), infos.get(config)


def _declared(data_files: Any, base: Path, folder: Path) -> _Layout:
    """Return the files that declared patterns match."""
    from datasets.data_files import sanitize_patterns

    layout = {}
    for split, patterns in sanitize_patterns(data_files).items():
        paths, roots = [], []
        for pattern in patterns:
            parts = PurePosixPath(_inside(pattern, "data_files", folder)).parts
            roots.append(base.joinpath(*takewhile(lambda part: not glob.has_magic(part), parts[:-1])))
            paths += [base / name for name in sorted(glob.glob(pattern, root_dir=base, recursive=True))]
        root = Path(os.path.commonpath(roots))
        # For the single pattern `train/cat/*` the class is `cat`, as for `train/**`.
        layout[split] = [
            _File(path, root.parent if path.parent == root != base else root)
            for path in dict.fromkeys(paths)
            if path.is_file() and path.name not in _NO_DATA
        ]
    return layout


def _inside(place: str, key: str, folder: Path) -> str:
    path = PurePosixPath(place)
    if "://" in place or "::" in place or path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"{folder / 'README.md'}: key {key!r}: must be inside the folder (value: {place!r})")
    return place


def _by_name(base: Path) -> _Layout:
    """Return the files of each split by the names of folders or files; without such names, all files as `train`."""
    named = next(filter(None, map(_named, _levels(base))), {"train": [base]})
    layout = {}
    for split, paths in named.items():
        files = [_File(file, path) for path in paths for file in _files_below(path)]
        layout[split] = sorted(files, key=lambda file: str(file.path))
    return layout


def _levels(base: Path) -> Iterator[Path]:
    """Yield the folders that may contain names of splits, from the outside to the inside."""
    level: Path | None = base
    while level is not None:
        yield level
        below = [path for path in _visible(level) if path.is_dir() and _has_data(path)]
        below = [path for path in below if path.name == "data"] or below
        level = below[0] if len(below) == 1 else None


def _named(level: Path) -> dict[str, list[Path]]:
    """Return split -> the shards, else folders, else files directly in a folder that are named after the split."""
    entries = _visible(level)
    folders = [path for path in entries if path.is_dir() and _has_data(path)]
    files = [path for path in entries if path.is_file() and _format(path) is not None]
    shards: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if level.name == "data" and (match := _SHARD.fullmatch(path.name)):
            shards[match[1]].append(path)
    return shards or _by_words(folders) or _by_words(files)


def _by_words(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return split -> the paths whose names stand for this split and for no other."""
    named: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        splits = {_WORDS[word] for word in re.split(r"[-._ 0-9]+", path.name) if word in _WORDS}
        if len(splits) == 1:
            named[splits.pop()].append(path)
    return named


def _files_below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.resolve() not in path.absolute().parents:  # a link to a parent folder would never end
        for below in _visible(path):
            yield from _files_below(below)


def _has_data(folder: Path) -> bool:
    return any(_format(file) is not None for file in _files_below(folder))


def _visible(folder: Path) -> list[Path]:
    hidden = (".", "__")
    return sorted(path for path in folder.iterdir() if not path.name.startswith(hidden) and path.name not in _NO_DATA)


def _format(path: Path) -> _Format | None:
    """Return the format of a file. An archive has the format of its files, if they are rows of one format."""
    from datasets.packaged_modules import _EXTENSION_TO_MODULE

    if path.suffix == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            formats = {_format(Path(name)) for name in archive.namelist() if not name.endswith("/")}
        only = formats.pop() if len(formats) == 1 else None
        return None if only is None or only.reader == "imagefolder" else only
    for suffix in path.suffixes:
        reader, options = _EXTENSION_TO_MODULE.get(suffix.lower(), ("", {}))
        if reader in _READERS:
            return _Format(reader, tuple(options.items()))
    return None


def _of_one_format(layout: _Layout, folder: Path) -> tuple[_Format, _Layout]:
    """Return the most frequent format, and the files of this format, with the metadata of images."""
    formats = {file.path: _format(file.path) for files in layout.values() for file in files}
    known = [(path, form) for path, form in formats.items() if form is not None]
    votes = Counter(form for path, form in known if path.name not in _METADATA) or Counter(form for _, form in known)
    if not votes:
        entries = ", ".join([path.name for path in _visible(folder)][:3]) or "nothing"
        raise DatasetError(
            f"folder {str(folder)!r} cannot be read: it has no data files (found: {entries}); expected: train, test, "
            f"{_EXPECTED}"
        )
    # In a tie, the format that `datasets` prefers.
    chosen = max(votes, key=lambda form: (votes[form], *(form.reader == name for name in ("parquet", "arrow", "json"))))
    for file in (file for files in layout.values() for file in files if file.root == file.path):
        if formats[file.path] != chosen:  # do not silently skip a file that is named after a split
            raise DatasetError(
                f"folder {str(folder)!r} has splits in several formats: {file.path.name!r} is not {chosen.reader}"
            )
    metadata = _METADATA if chosen.reader == "imagefolder" else ()
    kept = {
        split: [file for file in files if formats[file.path] == chosen or file.path.name in metadata]
        for split, files in layout.items()
    }
    return chosen, {split: files for split, files in kept.items() if files}


def _has_metadata(layout: _Layout) -> bool:
    return any(file.path.name in _METADATA for files in layout.values() for file in files)


def _read(reader: str, layout: _Layout, options: Mapping[str, Any], declaration: str) -> dict[str, Any]:
    import datasets
    from datasets.data_files import DataFilesList

    lists = {}
    for split, files in layout.items():
        stats = [file.path.stat() for file in files]
        # Path and stamp identify a file in the cache of `datasets`.
        stamps = [(str(stat.st_mtime_ns), str(stat.st_size), declaration) for stat in stats]
        lists[split] = DataFilesList([str(file.path) for file in files], stamps)
    return dict(datasets.load_dataset(reader, data_files=lists, **options))


def _check_sizes(splits: Mapping[str, Any], declared: Mapping[str, Any], folder: Path) -> None:
    for name in sorted(splits.keys() & declared.keys()):
        n_rows = declared[name].num_examples
        if n_rows and len(splits[name]) != n_rows:
            raise DatasetError(
                f"{folder / 'README.md'}: key 'dataset_info': split {name!r} must have {n_rows} rows "
                f"(found: {len(splits[name])}); complete the copy or correct the key"
            )


def _labelled(splits: Mapping[str, Any], layout: _Layout, folder: Path) -> Mapping[str, Any]:
    """Add the class of each image, if the images are in class folders."""
    import datasets

    labels: dict[str, list[str]] = {}
    for name, split in splits.items():
        roots = {str(file.path): file.root for file in layout[name]}
        paths = [image["path"] for image in split.with_format("arrow")[:].column("image").to_pylist()]
        labels[name] = [(*Path(path).relative_to(roots[path]).parent.parts, "")[0] for path in paths]
        if "" in labels[name] and any(labels[name]):
            stray = Path(paths[labels[name].index("")]).relative_to(folder)
            raise DatasetError(
                f"folder {str(folder)!r} has class folders, but image {str(stray)!r} is in none of them; "
                "move it into one"
            )
    classes = sorted({label for own in labels.values() for label in own})
    if "" in classes:
        return splits
    feature = datasets.ClassLabel(names=classes)
    return {
        name: split.add_column("label", feature.str2int(labels[name]), feature=feature)
        for name, split in splits.items()
    }

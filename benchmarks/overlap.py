"""Print how many examples of validation and test splits also occur in earlier splits, for the project's suites.

    python benchmarks/overlap.py [SUITE ...] [--data-dir DIR]

There is one line for each dataset and set of splits. A dataset that is not on this machine is looked up on the hub.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.datasets import data_directories, load_dataset
from ganno_bench.workloads.suite import DatasetSpec, find_suite, load_suite, suite_names


def overlap(spec: DatasetSpec, data_dirs: tuple[Path, ...], suite: Path) -> str:
    """Return the overlap for which a dataset is refused if no overlap is allowed, or `nothing`."""
    try:
        load_dataset("d", spec.model_copy(update={"max_overlap": 0.0}), data_dirs, suite.parent)
    except DatasetError as error:
        return str(error).partition(" has ")[2].partition(", too")[0] or str(error)
    return "nothing"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=suite_names(), metavar="SUITE")
    parser.add_argument("--data-dir", type=Path, action="append", default=[])
    given = parser.parse_args()
    data_dirs = data_directories(given.data_dir)
    rows: dict[tuple[str, str], str] = {}
    for name in given.suites:
        for spec in load_suite(name).dataset.values():
            splits = f"{spec.train_split}, {spec.validation_split or 'its own or cut'}, {spec.test_split}"
            key = (spec.source, splits)
            if key not in rows:
                rows[key] = overlap(spec, data_dirs, find_suite(name))
                print(f"{spec.source:32} {splits:34} {rows[key]}", flush=True)


if __name__ == "__main__":
    main()

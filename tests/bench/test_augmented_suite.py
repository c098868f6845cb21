"""A suite with augmentation: run, torn, resumed, and refused if it is invalid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganno_bench.core.errors import ConfigError
from tests.helpers.tiny_suite import SMALL, keep, results, run_tiny, write_suite

FIRST = 'optimizer = { name = "sgd" }\n'


def augmented(folder: Path, augmentation: str) -> Path:
    folder.mkdir()
    return write_suite(folder, (FIRST, f"{FIRST}augmentation = {augmentation}\n"))


def first_trial(out: Path, workload: str) -> Any:
    """Return the results of the default configuration; further trials depend on the suite's hash."""
    return next(record["metrics"] for record in results(out) if record["workload"] == workload)


def test_only_the_workload_with_augmentation_is_augmented_and_a_torn_run_resumes(suite: Path, tmp_path: Path) -> None:
    settings = SMALL | {"schedulers": ["cosine"]}
    run_tiny(suite, tmp_path / "plain", **settings)
    changed = augmented(tmp_path / "changed", "{ flip = true, crop = 2 }")
    out = tmp_path / "out"
    run_tiny(changed, out, **settings)
    assert first_trial(out, "adam-mlp") == first_trial(tmp_path / "plain", "adam-mlp")
    assert first_trial(out, "sgd-mlp") != first_trial(tmp_path / "plain", "sgd-mlp")
    unbroken = results(out)
    assert len(unbroken) == 8
    keep(out, 3)  # one of two reports
    run_tiny(changed, out, **settings)
    assert results(out) == unbroken


def test_a_crop_that_is_too_large_for_the_images(tmp_path: Path) -> None:
    suite = augmented(tmp_path / "suite", "{ crop = 8 }")
    with pytest.raises(ConfigError) as caught:
        run_tiny(suite, tmp_path / "out")
    assert str(caught.value) == (
        f"{suite}: key 'workload[0].augmentation': crop must be less than the sides of the images, 8x8 in "
        "dataset 'digits' (value: 8)"
    )

"""The batches of a chunk of runs: which examples an update of each run uses, and how their images are augmented."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganno_bench.core.seeding import stream_seed
from ganno_bench.workloads.augmentation import Augmentation
from ganno_bench.workloads.data import Split
from ganno_bench.workloads.workload import Workload

__all__ = ["Batches"]


class Batches:
    """The batches of R runs. Runs with equal seeds have equal batches, which are made once.

    Attributes:
        order: Indices of the examples, int64, shape (n_updates, S, B), for S distinct seeds.
        views: Views of their images, int32, shape (n_updates, S, B); None without augmentation.
        rows: Index of each run's seed, shape (R,).
    """

    def __init__(
        self, workload: Workload, train: Split, seeds: Sequence[int], device: torch.device, dtype: torch.dtype
    ) -> None:
        """Draw order and views of all updates.

        Args:
            workload: The workload.
            train: Its training split, on the device.
            seeds: Seed of each run.
            device: Device of the runs.
            dtype: Floating-point type of images.
        """
        spec = workload.spec
        distinct = list(dict.fromkeys(seeds))
        self._train = train
        self._all_distinct = len(distinct) == len(seeds)
        self.rows = torch.tensor([distinct.index(seed) for seed in seeds], device=device)
        orders = [train.order(_generator(seed, "data-order"), spec.n_updates, spec.batch_size) for seed in distinct]
        self.order = torch.stack(orders, dim=1).to(device)
        self.views: Tensor | None = None
        self._augmentation: Augmentation | None = None
        if spec.augmentation is not None:
            augmentation = Augmentation(spec.augmentation, workload.dataset, device, dtype)
            views = [
                augmentation.draw(_generator(seed, "augmentation"), spec.n_updates, spec.batch_size)
                for seed in distinct
            ]
            self.views = torch.stack(views, dim=1).to(device)
            self._augmentation = augmentation

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Return the batch of an update for each run: inputs (R, B, *input_shape) and targets (R, B, ...)."""
        inputs, targets = self.examples(self.order[update], None if self.views is None else self.views[update])
        return (inputs, targets) if self._all_distinct else (inputs[self.rows], targets[self.rows])

    def examples(self, index: Tensor, views: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return these examples, in these views if images are augmented. All shapes begin with the index's."""
        inputs, targets = self._train.gather(index)
        if self._augmentation is not None and views is not None:
            inputs = self._augmentation.view(inputs, views)
        return inputs, targets


def _generator(seed: int, stream: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, stream))

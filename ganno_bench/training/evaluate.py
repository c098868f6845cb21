"""Loss and error of P networks on a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganno_bench.training.backends import Backend, missing_examples
from ganno_bench.training.buffers import Buffers
from ganno_bench.workloads.data import Split

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Results on a split.

    Attributes:
        loss: Mean cross-entropy in nats per example (per token), float64, shape (P,).
        error: Share of wrong predictions, in [0, 1], float64, shape (P,).
    """

    loss: Tensor
    error: Tensor


@torch.no_grad()
def evaluate(backend: Backend, parameters: Tensor, buffers: Buffers, split: Split) -> Evaluation:
    """Evaluate P networks, in evaluation mode.

    Args:
        backend: Computes the predictions.
        parameters: A row for each network, shape (P, N).
        buffers: The state buffers of the networks; they are not changed.
        split: The examples, on the same device.
    """
    windows = split.windows()
    totals = torch.zeros(3, parameters.shape[0], dtype=torch.float64, device=parameters.device)
    batch = max(1, backend.n_scored // split.n_predictions)
    for index in torch.split(windows, batch):
        # The last batch is padded for alignment; predictions for the padding are cut off.
        inputs, targets = split.gather(index)
        missing = batch - len(index) if backend.fixed_shapes else missing_examples(targets.shape)
        inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        losses, wrong = backend.score(parameters, buffers, inputs, targets)
        totals[0] += losses.sum(1, dtype=torch.float64)
        totals[1] += wrong.sum(1)
        totals[2] += wrong.shape[1]
    return Evaluation(totals[0] / totals[2], totals[1] / totals[2])

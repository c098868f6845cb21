"""Loss and error of P networks on a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ganno_bench.training.backends import Backend, missing_examples
from ganno_bench.training.buffers import Buffers
from ganno_bench.workloads.data import Split

__all__ = ["BATCH", "Evaluation", "evaluate"]

# Predictions (examples or tokens) of each run in one batch; more would not fit the processor's cache. It is fixed,
# because the size of a batch can change how a matrix library rounds.
BATCH = 512


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
    batch = max(1, BATCH // split.n_predictions)
    for index in torch.split(windows, batch):
        # The last batch is padded for alignment; predictions for the padding are cut off.
        inputs, targets = split.gather(index)
        missing = missing_examples(targets.shape)
        inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        logits = backend.logits(parameters, buffers, inputs)[:, : len(index)].flatten(
            1, -2
        )  # (P, predictions, outputs)
        wanted = targets.flatten().expand(logits.shape[0], -1)
        losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(wanted)
        totals[0] += losses.sum(1, dtype=torch.float64)
        totals[1] += (logits.argmax(-1) != wanted).sum(1)
        totals[2] += wanted.shape[1]
    return Evaluation(totals[0] / totals[2], totals[1] / totals[2])

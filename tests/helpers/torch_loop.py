"""What the engine is measured against: one run after another, in plain PyTorch, sharing only model, data and seeds."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganno_bench.core.seeding import stream_seed
from ganno_bench.training.population import Engine, Population
from ganno_bench.workloads.data import Split
from ganno_bench.workloads.workload import Workload


@dataclass(frozen=True)
class Update:
    """One update of one run; the lists have a flat vector for each layer."""

    loss: float
    gradient: list[Tensor]
    moment: list[Tensor]  # momentum or first moment, before the update
    before: list[Tensor]
    after: list[Tensor]

    def scaled(self, weights: Tensor, layer: int) -> Update:
        """Return the update with a layer's entries multiplied by weights."""
        lists = {field.name: list(getattr(self, field.name)) for field in fields(self) if field.name != "loss"}
        for vectors in lists.values():
            vectors[layer] = vectors[layer] * weights
        return Update(self.loss, **lists)


class TorchRun:
    def __init__(self, workload: Workload, seed: int, weight_decay: float, dtype: torch.dtype) -> None:
        spec = workload.spec
        self.model = workload.build(seed).to(dtype)
        named = dict(self.model.named_parameters())
        self.layers = [[named[name] for name in layer.parameters] for layer in workload.layers]
        self.optimizer = make_torch_optimizer(workload, self.layers, weight_decay)
        self.train = workload.dataset.train.to("cpu", dtype)
        generator = torch.Generator().manual_seed(stream_seed(seed, "data-order"))
        self.order = iter(self.train.order(generator, spec.n_updates, spec.batch_size))

    def update(self, lr: Tensor) -> Tensor:
        """Make an update with these learning rates, shape (L,); return the loss before it."""
        for group, value in zip(self.optimizer.param_groups, lr.tolist(), strict=True):
            group["lr"] = value
        inputs, targets = self.train.gather(next(self.order))
        self.optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(self.model(inputs).movedim(-1, 1), targets)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def recorded_update(self, lr: Tensor) -> Update:
        before, moment = self.parameters(), [self._moment(layer) for layer in self.layers]
        loss = self.update(lr)
        gradient = [torch.cat([p.grad.flatten() for p in layer if p.grad is not None]) for layer in self.layers]
        return Update(float(loss), gradient, moment, before, self.parameters())

    def parameters(self) -> list[Tensor]:
        return [torch.cat([p.detach().flatten() for p in layer]) for layer in self.layers]

    def _moment(self, layer: list[nn.Parameter]) -> Tensor:
        name = "momentum_buffer" if isinstance(self.optimizer, torch.optim.SGD) else "exp_avg"
        moments = [self.optimizer.state.get(p, {}).get(name) for p in layer]
        pairs = zip(layer, moments, strict=True)
        return torch.cat([(torch.zeros_like(p) if m is None else m).flatten() for p, m in pairs])


def make_torch_optimizer(
    workload: Workload, layers: list[list[nn.Parameter]], weight_decay: float
) -> torch.optim.Optimizer:
    spec = workload.spec.optimizer
    groups = [{"params": layer} for layer in layers]
    if spec.name == "sgd":
        return torch.optim.SGD(groups, 0.0, spec.momentum, weight_decay=weight_decay, nesterov=spec.nesterov)
    maker = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec.name]
    return maker(groups, 0.0, betas=spec.betas, eps=spec.eps, weight_decay=weight_decay)


@torch.no_grad()
def evaluate_plainly(model: nn.Module, split: Split) -> tuple[float, float]:
    """Return mean loss and error over a split, from one batch."""
    inputs, targets = split.gather(split.windows())
    logits = model(inputs).movedim(-1, 1)
    return float(F.cross_entropy(logits, targets)), float((logits.argmax(1) != targets).double().mean())


def parameters(population: Population) -> Tensor:
    """Return the parameters of all runs, shape (P, N)."""
    return torch.cat([chunk.parameters[: chunk.n_runs] for chunk in population._chunks])


def layer_vectors(engine: Engine, row: Tensor) -> list[Tensor]:
    """Return what a row of the engine's matrix holds, a flat vector for each layer, the gaps left out."""
    views = dict(zip(engine.layout.names, engine.layout.views(row[None]), strict=True))
    return [torch.cat([views[name].flatten() for name in layer.parameters]) for layer in engine.layout.layers]

"""A plain training loop under a policy, which can be saved."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ganno_bench import GannoScheduler, layer_groups


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.third(torch.relu(self.second(torch.relu(self.first(inputs)))))
        return logits


class Parts:
    """A `Net`, an optimizer and made-up batches, and a scheduler from when it is asked for."""

    scheduler: GannoScheduler

    def __init__(
        self,
        policy: Path,
        total: int,
        n_layers: int | None = None,
        *,
        lr: float = 0.1,
        weight_decay: float = 0.0,
        **options: float,
    ) -> None:
        self.policy, self.total, self.n_layers, self.options = policy, total, n_layers, options
        self.net = Net()
        groups = layer_groups(self.net)
        if n_layers is not None:  # as for weight decay: weights, and biases
            groups = [{"params": [p for p in self.net.parameters() if p.ndim == n]} for n in (2, 1)]
        self.optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=weight_decay)
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(40, 16, 6, generator=generator)
        self.targets = torch.randint(0, 3, (40, 16), generator=generator)

    def make(self) -> None:
        self.scheduler = GannoScheduler(
            self.optimizer,
            self.total,
            self.policy,
            n_layers=self.n_layers,
            **self.options,  # type: ignore[arg-type]
        )

    def update(self, index: int) -> list[float]:
        rates = self.scheduler.get_last_lr()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(self.inputs[index]), self.targets[index])
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        return rates


class Loop(Parts):
    """The same with its scheduler."""

    def __init__(self, folder: Path, total: int = 23, n_layers: int | None = None) -> None:
        super().__init__(folder, total, n_layers)
        self.make()

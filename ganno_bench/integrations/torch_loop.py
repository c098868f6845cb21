"""A trained policy in a PyTorch training loop of the user's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError
from ganno_bench.core.versions import check_version
from ganno_bench.integrations.layer_signals import LayerSignals
from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.observations import Array
from ganno_bench.policies.one_run import OneRun
from ganno_bench.policies.policy import load_policy
from ganno_bench.schedulers.shipped import locate_policy
from ganno_bench.training.signals import LAYER_SIGNALS, RunInfo, Signals
from ganno_bench.workloads.layers import partition

__all__ = ["GannoScheduler", "kept_loss", "layer_groups"]

_FORMAT = 1
"""Of what `GannoScheduler.state_dict` returns."""


def layer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return a parameter group for each layer of a network, from input to output, to make an optimizer from.

    A layer is what `model.layers()` says, if there is such a method, or else a natural block: a residual block, an
    encoder's layer, a convolution with its normalisation; see `ganno_bench.workloads.blocks`. A policy was trained on
    such groups.

    Raises:
        PluginError: A parameter belongs to no layer, or to two.
    """
    parameters = dict(model.named_parameters())
    return [
        {"name": layer.name, "params": [parameters[name] for name in layer.parameters]} for layer in partition(model)
    ]


class GannoScheduler:
    """Sets the learning rate of each parameter group by a trained policy, which sees how training goes.

        optimizer = torch.optim.SGD(layer_groups(model), lr=0.01, momentum=0.9)
        scheduler = GannoScheduler(optimizer, total_updates=1000, policy="runs/train/mine/policy")
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = loss_function(model(inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step(loss)

    Call `step` once for each `optimizer.step()`, after it and before the gradients are cleared: it reads the gradients
    that the update was made with (`.grad`, weight decay not included; after clipping and unscaling, if there was any).
    With accumulated gradients that is once for each accumulated batch, with the mean of its losses. Under a
    `torch.amp.GradScaler` call it after `scaler.step(optimizer)`, which unscales the gradients (if the optimizer is
    fused, `scaler.unscale_(optimizer)` must have done so). An update that the scaler skipped counts as an update of the
    horizon; its gradients are not measured if one of those looked at is not finite, or if it was the last update
    before a decision.

    Any `torch.optim` optimizer will do; sparse gradients will only for a policy that looks at none. The policy was
    trained with SGD with momentum and AdamW; an optimizer with `betas` is taken for an Adam, any other for SGD.
    Learning rates that are tensors, for a compiled or captured optimizer, are written into, as by torch's own
    schedulers; groups that share one get one each.

    Attributes:
        n_updates: Calls of `step` so far.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_updates: int, policy: str | Path, *, n_layers: int | None = None
    ) -> None:
        """Take over the learning rates of an optimizer.

        Args:
            optimizer: A parameter group for each layer, from input to output, as `layer_groups` makes them. All begin
                with the same learning rate: the base learning rate.
            total_updates: The horizon; afterwards the learning rates stay as they are.
            policy: A policy's folder, or the name of a shipped one.
            n_layers: Layers of the network, where the groups are not its layers: `len(layer_groups(model))`. Only for a
                policy with one agent that observes nothing of the layers' gradients and parameters, `ganno-light`; all
                groups get the same learning rate. None: each group is a layer.

        Raises:
            ConfigError: There is no such policy, or it needs a group for each layer; the groups' learning rates differ;
                the horizon or the number of layers is below 1.
        """
        for name, value in (("total_updates", total_updates), ("n_layers", n_layers)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is less than 1 (value: {value})")
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        if len(set(rates)) > 1:
            raise ConfigError(f"the parameter groups begin with different learning rates: {sorted(set(rates))}")
        self.policy = load_policy(locate_policy(str(policy)))
        controller = self.policy.controller
        if n_layers is not None and controller.needs_layers:
            raise ConfigError(
                f"the policy {self.policy.card.name!r} looks at layers or sets their learning rates one by one: "
                "give the optimizer a parameter group for each layer, as layer_groups() makes them, and no n_layers"
            )
        self.optimizer = optimizer
        self._n_layers = n_layers
        groups = [
            [parameter for parameter in group["params"] if parameter.requires_grad] for group in optimizer.param_groups
        ]
        self._interval, self._each = self.policy.card.interval, self.policy.card.action.scope == "layer"
        self._needs = controller.needs
        self._layers: LayerSignals | None = None
        if not self._needs.isdisjoint(LAYER_SIGNALS):
            self._layers = LayerSignals(groups, optimizer, self._needs, self._interval)
        self._losses: list[float] = []  # of this interval
        self._waiting: list[Tensor] = []  # those that another device has not told yet
        defaults = optimizer.param_groups[0]
        names = {torch.optim.SGD: "sgd", torch.optim.Adam: "adam", torch.optim.AdamW: "adamw"}
        kind = names.get(type(optimizer), "adamw" if "betas" in defaults else "sgd")
        # Of layers that are not groups nothing is known but their number.
        names_of_groups = tuple(str(group.get("name", i)) for i, group in enumerate(optimizer.param_groups))
        sizes = tuple(sum(parameter.numel() for parameter in group) for group in groups)
        self._run = RunInfo(
            layer_names=names_of_groups if n_layers is None else ("",) * n_layers,
            layer_sizes=sizes if n_layers is None else (sum(sizes) // n_layers,) * n_layers,
            base_lr=torch.tensor([rates[0]], dtype=torch.float64),
            weight_decay=torch.tensor([float(defaults.get("weight_decay", 0.0))], dtype=torch.float64),
            total_updates=total_updates,
            optimizer=kind,
        )
        self._one_run = OneRun(self.policy, self._run) if OneRun.fits(self.policy) else None
        self._control = controller.init(self._run)  # of no use where there is a OneRun, which has its own
        self._part_rates()
        self.n_updates = 0
        self._next_look = self._next()
        self._lr_block, self._block_begin = self._decide(math.nan, math.nan), 0
        self._apply()
        self._prepare()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group, as torch's schedulers do."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, loss: Tensor | float, val_loss: Tensor | float | None = None) -> None:
        """Take in an update that was just made, and set the learning rates of the next one.

        Args:
            loss: The loss on the batch that the update was made with; nats, for a policy to be at home.
            val_loss: A validation loss; only policies that observe one need it, and only when they decide.

        Raises:
            ConfigError: The policy observes gradients and there are none, or a validation loss and there is none.
        """
        kept = kept_loss(loss)
        n_updates = self.n_updates + 1
        if n_updates >= self._next_look:
            if n_updates >= self._run.total_updates:
                self.n_updates = n_updates
                return
            seen_val_loss = self._seen(val_loss)
        if self._layers is not None:
            self._layers.record(self.n_updates)
        self.n_updates = n_updates
        if isinstance(kept, float):
            self._losses.append(kept)
        else:
            self._waiting.append(kept)
        if n_updates >= self._next_look:
            self._lr_block, self._block_begin = self._decide(self._mean_loss(), seen_val_loss), n_updates
            self._next_look = self._next()
        self._apply()
        self._prepare()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, of tensors, numbers and lists: enough to go on exactly."""
        return {
            "format": _FORMAT,
            "n_updates": self.n_updates,
            "control": copy.deepcopy((self._control if self._one_run is None else self._one_run.state).state_dict()),
            "lr_block": copy.deepcopy(self._lr_block),
            "block_begin": self._block_begin,
            "losses": [*self._losses, *(loss.item() for loss in self._waiting)],
            "layers": None if self._layers is None else self._layers.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the optimizer's own state is the optimizer's to restore.

        Raises:
            ConfigError: It is the state of a network with layers of other sizes, or of another policy.
            VersionError: A later version of ganno-bench made it.
        """
        check_version(state.get("format", 1), _FORMAT)  # the first states did not say
        control = ControlState.from_state_dict(copy.deepcopy(state["control"]))
        if control.log_factor.shape[1] != self._run.n_layers:
            raise ConfigError(
                f"the state is of {control.log_factor.shape[1]} layers, this scheduler has {self._run.n_layers}"
            )
        n_updates, losses = state["n_updates"], list(state["losses"])
        lr_block, block_begin = copy.deepcopy(state["lr_block"]), state["block_begin"]
        if self._layers is not None:
            if state.get("layers") is None:
                raise ConfigError("the state has nothing of layers: it is of another policy, or of an earlier version")
            self._layers.load_state_dict(state["layers"])
        self.n_updates = n_updates
        if self._one_run is None:
            self._control = control
        else:
            self._one_run.state = control
        self._part_rates()
        self._lr_block, self._block_begin = lr_block, block_begin
        self._losses, self._waiting = losses, []
        self._next_look = self._next()
        self._apply()

    def _next(self) -> int:
        """Return the update after which there is more to do than after an ordinary one."""
        decision = self.n_updates - self.n_updates % self._interval + self._interval
        return min(decision, self._run.total_updates)

    def _seen(self, val_loss: Tensor | float | None) -> float:
        """Return the validation loss that a decision is to see; NaN if none is observed."""
        if "val_loss" not in self._needs:
            return math.nan
        if val_loss is None:
            name = self.policy.card.name
            raise ConfigError(f"the policy {name!r} observes a validation loss: step(loss, val_loss)")
        return _number(val_loss)

    def _decide(self, train_loss: float, val_loss: float) -> list[list[float]]:
        """Return the learning rates of each group at each update of the next interval; set the weight decay.

        Args:
            train_loss: Mean over the interval that has ended; NaN before the first update.
            val_loss: Validation loss now; NaN if it is not known, or not observed.
        """
        rates = self.get_last_lr()
        layers: dict[str, Array] = {}
        if self._layers is not None:
            layers = self._layers.measure(rates) if self.n_updates else self._layers.at_first()
        if self._one_run is not None:
            lr = np.array(rates) if self._each else rates[0]
            decided = self._one_run.decide(self.n_updates, lr, train_loss, val_loss, layers)
            return decided if self._each or len(rates) == 1 else [rate * len(rates) for rate in decided]
        return self._decide_in_tensors(rates, train_loss, val_loss, layers)

    def _decide_in_tensors(
        self, rates: list[float], train_loss: float, val_loss: float, layers: Mapping[str, Array]
    ) -> list[list[float]]:
        used = torch.tensor([rates if self._n_layers is None else rates[:1] * self._n_layers], dtype=torch.float64)
        fields = {name: torch.from_numpy(value)[None] for name, value in layers.items()}
        if "val_loss" in self._needs:
            fields["val_loss"] = torch.tensor([val_loss], dtype=torch.float64)
        controls, self._control = self.policy.control(
            self._control,
            self._run,
            Signals(
                n_updates=self.n_updates,
                total_updates=self._run.total_updates,
                diverged=torch.zeros(1, dtype=torch.bool),
                lr=used if self.n_updates else torch.full_like(used, torch.nan),
                train_loss=torch.tensor([train_loss], dtype=torch.float64),
                **fields,
            ),
        )
        if controls.weight_decay is not None:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = float(controls.weight_decay)
        lr_of_layers = controls.lr[:, 0]
        if self._n_layers is not None:
            lr_of_layers = lr_of_layers[:, :1].expand(-1, len(rates))
        rates_of_updates: list[list[float]] = lr_of_layers.tolist()
        return rates_of_updates

    def _apply(self) -> None:
        """Set the learning rates of the next update."""
        block = self._lr_block
        rates = block[min(self.n_updates - self._block_begin, len(block) - 1)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].detach().fill_(rate)
            else:
                group["lr"] = rate

    def _part_rates(self) -> None:
        """Give each group a tensor of its own, where learning rates are tensors: an optimizer gives all of them one."""
        seen: set[int] = set()
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor) and id(group["lr"]) in seen:
                group["lr"] = group["lr"].clone()
            seen.add(id(group["lr"]))

    def _prepare(self) -> None:
        """Keep what the last update of an interval is going to change."""
        if self._layers is not None and (self.n_updates + 1) % self._interval == 0:
            self._layers.prepare()

    def _mean_loss(self) -> float:
        """Return the mean of an interval's losses, but for those that are not finite; begin another interval."""
        if self._waiting:
            self._losses += torch.stack(self._waiting).tolist()
        losses, self._losses, self._waiting = self._losses, [], []
        total = sum(losses)
        if not math.isfinite(total):
            losses = [loss for loss in losses if math.isfinite(loss)]
            total = sum(losses)
        return total / len(losses) if losses else math.nan


def _number(value: Tensor | float) -> float:
    return float(value.item() if isinstance(value, Tensor) else value)


def kept_loss(loss: Tensor | float) -> Tensor | float:
    """Return a loss that stays as it is when its tensor is overwritten; another device's is not waited for."""
    if not isinstance(loss, Tensor):
        return float(loss)
    return float(loss.item()) if loss.is_cpu else loss.detach().reshape(()).clone()

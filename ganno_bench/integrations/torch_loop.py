"""A trained policy in a PyTorch training loop of the user's own."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError
from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.one_run import OneRun
from ganno_bench.policies.policy import load_policy
from ganno_bench.schedulers.shipped import locate_policy
from ganno_bench.training.layout import sample_stride
from ganno_bench.training.signals import RunInfo, Signals
from ganno_bench.workloads.layers import partition

__all__ = ["GannoScheduler", "layer_groups"]

_TINY = 1e-30
_COPIES = ("before", "momentum")


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
    `torch.amp.GradScaler` call it after `scaler.step(optimizer)`, which unscales the gradients; an update that the
    scaler skipped counts as an update of the horizon; its gradients, which are not finite, are not measured.

    Any `torch.optim` optimizer will do. The policy was trained with SGD with momentum and AdamW; an optimizer with
    `betas` is taken for an Adam, any other for SGD. Learning rates that are tensors, for a compiled or captured
    optimizer, are written into, as by torch's own schedulers; groups that share one get one each.

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
        self._groups: list[list[Tensor]] = [
            [parameter for parameter in group["params"] if parameter.requires_grad] for group in optimizer.param_groups
        ]
        self._parameters = [parameter for group in self._groups for parameter in group]
        self._strides = [sample_stride(parameter.numel()) for parameter in self._parameters]
        owners = [index for index, group in enumerate(self._groups) for _ in group]
        self._owners = torch.tensor(owners)
        self._interval = self.policy.card.interval
        self._needs = controller.needs
        self._sees_gradients = not self._needs.isdisjoint(("grad_norm", "grad_cosine", "grad_snr"))
        self._shapes: list[torch.Size] = []
        self._n_sampled = [0 for _ in self._groups]
        if "grad_snr" in self._needs:
            self._shapes = [_every(p.detach(), n).shape for p, n in zip(self._parameters, self._strides, strict=True)]
            for owner, shape in zip(owners, self._shapes, strict=True):
                self._n_sampled[owner] += shape.numel()
        self._losses: list[float] = []  # of this interval
        self._waiting: list[Tensor] = []  # those that another device has not told yet
        self._sample: _Sample | None = None  # kept from interval to interval, as are the copies: to allocate costs
        self._before: list[Tensor] = []
        self._momentum: list[Tensor] = []
        defaults = optimizer.param_groups[0]
        names = {torch.optim.SGD: "sgd", torch.optim.Adam: "adam", torch.optim.AdamW: "adamw"}
        kind = names.get(type(optimizer), "adamw" if "betas" in defaults else "sgd")
        # Of layers that are not groups nothing is known but their number.
        names_of_groups = tuple(str(group.get("name", i)) for i, group in enumerate(optimizer.param_groups))
        sizes = tuple(sum(parameter.numel() for parameter in group) for group in self._groups)
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
        kept = _kept(loss)
        if self._sees_gradients:
            self._check_gradients()
        n_updates = self.n_updates + 1
        decides = n_updates % self._interval == 0 and n_updates < self._run.total_updates
        seen_val_loss = math.nan
        if decides and "val_loss" in self._needs:
            if val_loss is None:
                name = self.policy.card.name
                raise ConfigError(f"the policy {name!r} observes a validation loss: step(loss, val_loss)")
            seen_val_loss = _number(val_loss)
        self.n_updates = n_updates
        if n_updates >= self._run.total_updates:
            return
        if isinstance(kept, Tensor):
            self._waiting.append(kept)
        else:
            self._losses.append(kept)
        if self._sees_gradients:
            self._record()
        if decides:
            self._lr_block, self._block_begin = self._decide(self._mean_loss(), seen_val_loss), n_updates
        self._apply()
        self._prepare()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, of tensors, numbers and lists: enough to go on exactly."""
        return {
            "n_updates": self.n_updates,
            "control": copy.deepcopy((self._control if self._one_run is None else self._one_run.state).state_dict()),
            "lr_block": copy.deepcopy(self._lr_block),
            "block_begin": self._block_begin,
            "losses": [*self._losses, *(loss.item() for loss in self._waiting)],
            "sample": None if self._sample is None else self._sample.state_dict(),
            **{name: [tensor.clone() for tensor in getattr(self, f"_{name}")] for name in _COPIES},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the optimizer's own state is the optimizer's to restore.

        Raises:
            ConfigError: It is the state of a network with another number of layers.
        """
        control = ControlState.from_state_dict(copy.deepcopy(state["control"]))
        if control.log_factor.shape[1] != self._run.n_layers:
            raise ConfigError(
                f"the state is of {control.log_factor.shape[1]} layers, this scheduler has {self._run.n_layers}"
            )
        self.n_updates = state["n_updates"]
        if self._one_run is None:
            self._control = control
        else:
            self._one_run.state = control
        self._part_rates()
        self._lr_block, self._block_begin = copy.deepcopy(state["lr_block"]), state["block_begin"]
        self._losses, self._waiting = list(state["losses"]), []
        sample = state["sample"]
        self._sample = None if sample is None else _Sample.from_state_dict(sample, self._shapes)
        for name in _COPIES:
            setattr(self, f"_{name}", [tensor.clone() for tensor in state[name]])
        self._apply()

    def _decide(self, train_loss: float, val_loss: float) -> list[list[float]]:
        """Return the learning rates of each group at each update of the next interval; set the weight decay.

        Args:
            train_loss: Mean over the interval that has ended; NaN before the first update.
            val_loss: Validation loss now; NaN if it is not known, or not observed.
        """
        first = not self.n_updates
        if self._one_run is not None:
            before = float(self.optimizer.param_groups[0]["lr"])
            lr = self._one_run.decide(self.n_updates, before, train_loss, val_loss)
            return [[rate] * len(self._groups) for rate in lr]
        rates = [math.nan] * len(self._groups) if first else self.get_last_lr()
        used = torch.tensor([rates if self._n_layers is None else rates[:1] * self._n_layers], dtype=torch.float64)
        fields: dict[str, Any] = {}
        if not first:
            fields |= self._measure()
        else:
            fields |= {name: torch.full_like(used, torch.nan) for name in self._needs}
            if "param_norm" in self._needs:
                fields["param_norm"] = self._norms(self._parameters)[None]
        if "val_loss" in self._needs:
            fields["val_loss"] = torch.tensor([val_loss], dtype=torch.float64)
        controls, self._control = self.policy.control(
            self._control,
            self._run,
            Signals(
                n_updates=self.n_updates,
                total_updates=self._run.total_updates,
                diverged=torch.zeros(1, dtype=torch.bool),
                lr=used,
                train_loss=torch.tensor([train_loss], dtype=torch.float64),
                **fields,
            ),
        )
        if controls.weight_decay is not None:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = float(controls.weight_decay)
        lr_of_layers = controls.lr[:, 0]
        if self._n_layers is not None:
            lr_of_layers = lr_of_layers[:, :1].expand(-1, len(self._groups))
        rates_of_updates: list[list[float]] = lr_of_layers.tolist()
        return rates_of_updates

    def _apply(self) -> None:
        """Set the learning rates of the next update."""
        rates = self._lr_block[min(self.n_updates - self._block_begin, len(self._lr_block) - 1)]
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
        if (self.n_updates + 1) % self._interval:
            return
        if "update_norm" in self._needs or "direction_norm" in self._needs:
            self._before = _copied(self._before, self._parameters)
        if "grad_cosine" in self._needs:
            self._momentum = _copied(self._momentum, [self._momentum_of(parameter) for parameter in self._parameters])

    def _gradients(self) -> list[Tensor]:
        return [
            torch.zeros_like(parameter) if (gradient := parameter.grad) is None else gradient
            for parameter in self._parameters
        ]

    def _momentum_of(self, parameter: Tensor) -> Tensor:
        state = self.optimizer.state.get(parameter, {})
        kept = state.get("momentum_buffer", state.get("exp_avg"))
        return kept if isinstance(kept, Tensor) else torch.zeros_like(parameter)

    def _check_gradients(self) -> None:
        """Complain if they are gone."""
        if all(parameter.grad is None for parameter in self._parameters):
            raise ConfigError("there are no gradients: call step() after optimizer.step() and before zero_grad()")
        if not self.n_updates and not bool(self._norms(self._gradients()).any()):
            raise ConfigError("all gradients are zero: call step() after optimizer.step() and before zero_grad()")

    def _record(self) -> None:
        """Keep what an update's gradients show, for `_measure` to look at: that is as little work as can be."""
        if "grad_snr" in self._needs:
            sample = [_every(gradient, n) for gradient, n in zip(self._gradients(), self._strides, strict=True)]
            if self._sample is None:
                self._sample = _Sample.blank(self._interval, sample)
            self._sample.record(sample)

    def _mean_loss(self) -> float:
        """Return the mean of an interval's losses, but for those that are not finite; begin another interval."""
        if self._waiting:
            self._losses += torch.stack(self._waiting).tolist()
        finite = [loss for loss in self._losses if math.isfinite(loss)]
        self._losses, self._waiting = [], []
        return sum(finite) / len(finite) if finite else math.nan

    @torch.no_grad()
    def _measure(self) -> dict[str, Tensor]:
        """Return the signals, each of shape (1, L), of an interval whose last update has just been made."""
        found = {} if self._sample is None else {"grad_snr": self._sample.finish(self._n_sampled)}
        tensors = {}
        if self._needs & {"grad_norm", "grad_cosine"}:
            tensors["grad_norm"] = self._gradients()
        if "param_norm" in self._needs:
            tensors["param_norm"] = self._parameters
        if self._before:
            torch._foreach_sub_(self._before, self._parameters)
            tensors["update_norm"] = self._before
        if self._momentum:
            tensors["momentum"] = self._momentum
        if tensors:
            norms = self._norms([tensor for several in tensors.values() for tensor in several]).view(len(tensors), -1)
            found |= zip(tensors, norms, strict=True)
        if self._before:
            found["direction_norm"] = found["update_norm"] / torch.tensor(self.get_last_lr()).double().clamp(min=_TINY)
        if self._momentum:
            pairs = zip(tensors["grad_norm"], self._momentum, strict=True)
            dots = self._per_layer(torch.stack([torch.dot(g.flatten(), m.flatten()) for g, m in pairs]))
            lengths = (found["grad_norm"] * found["momentum"]).clamp(min=_TINY)
            found["grad_cosine"] = (dots / lengths).clamp(-1.0, 1.0)
        if "grad_norm" in found and not bool(found["grad_norm"].isfinite().all()):  # a scaler skipped the update
            of_one_update = {"grad_norm", "grad_cosine", "update_norm", "direction_norm"}
            found |= {name: torch.full_like(found["grad_norm"], torch.nan) for name in of_one_update & found.keys()}
        return {name: value[None] for name, value in found.items() if name in self._needs}

    @torch.no_grad()
    def _norms(self, tensors: list[Tensor]) -> Tensor:
        """Return the Euclidean norm of each layer, float64, on the CPU.

        Args:
            tensors: A tensor for each parameter, or several times that many.

        Returns:
            Shape (L,), or several times that many.
        """
        return self._per_layer(torch.stack(torch._foreach_norm(tensors)).double().square()).sqrt()

    def _per_layer(self, values: Tensor) -> Tensor:
        """Add up a value for each parameter within layers, float64 on the CPU; see `_norms`."""
        table = values.cpu().double().view(-1, len(self._owners))
        return table.new_zeros(len(table), len(self._groups)).index_add_(1, self._owners, table).flatten()


class _Sample:
    """Samples of the gradients since the last decision. Gradients that are not finite do not count.

    Attributes:
        gradients: Of the first `n_updates` updates, shape (interval, sampled).
        n_updates: Updates so far.
    """

    def __init__(self, gradients: Tensor, n_updates: int, shapes: list[torch.Size]) -> None:
        """Prepare to copy samples of some shapes, one for each parameter, into rows."""
        self.gradients, self.n_updates = gradients, n_updates
        sizes = [shape.numel() for shape in shapes]
        self._parts = [
            [part.view(shape) for part, shape in zip(row.split(sizes), shapes, strict=True)] for row in gradients
        ]

    @classmethod
    def blank(cls, n_updates: int, sample: list[Tensor]) -> Self:
        """Make room for so many updates like the first one."""
        like = torch.cat([part.detach().flatten() for part in sample])
        return cls(like.new_empty(n_updates, len(like)), 0, [part.shape for part in sample])

    @torch.no_grad()
    def record(self, sample: list[Tensor]) -> None:
        """Take in an update's gradients: they may change afterwards."""
        torch._foreach_copy_(self._parts[self.n_updates], sample)
        self.n_updates += 1

    def finish(self, sizes: list[int]) -> Tensor:
        """Begin another interval; return the gradients' signal-to-noise ratio, float64, shape (L,).

        Args:
            sizes: Sampled entries of each layer.
        """
        gradients = self.gradients[: self.n_updates]
        self.n_updates = 0
        norms, total = _norms_of_parts(gradients, sizes)
        measured = norms.isfinite().all(dim=1)
        if not measured.all():
            norms, total = _norms_of_parts(gradients[measured.to(gradients.device)], sizes)
        return (total / norms.sum(dim=0).clamp(min=_TINY)).clamp(max=1.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: a tensor and a number."""
        return {"gradients": self.gradients.clone(), "n_updates": self.n_updates}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], shapes: list[torch.Size]) -> Self:
        """Go on from what `state_dict` returned."""
        return cls(state["gradients"].clone(), state["n_updates"], shapes)


def _number(value: Tensor | float) -> float:
    return float(value.item() if isinstance(value, Tensor) else value)


def _kept(loss: Tensor | float) -> Tensor | float:
    """Return a loss that stays as it is when its tensor is overwritten; another device's is not waited for."""
    if not isinstance(loss, Tensor):
        return float(loss)
    return float(loss.item()) if loss.is_cpu else loss.detach().reshape(()).clone()


def _every(tensor: Tensor, n: int) -> Tensor:
    """Return every n-th entry of a tensor, flattened, as a view where that can be; for n = 1 the tensor as it is."""
    if n == 1:
        return tensor
    if not tensor.is_contiguous():
        return tensor.flatten()[::n]
    return tensor.as_strided((math.ceil(tensor.numel() / n),), (n,))


def _norms_of_parts(rows: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Return the Euclidean norms of the parts of each row, (rows, parts), and of the rows' sum, (parts,), float64."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    norms, totals = [], []
    for part in torch.split(rows, sizes, dim=1):  # one after the other, so that the sum finds a part in the cache
        norms.append(torch.linalg.vector_norm(part, dim=1, dtype=dtype))
        totals.append(torch.linalg.vector_norm(part.sum(dim=0, dtype=dtype)))
    return torch.stack(norms, dim=1).cpu().double(), torch.stack(totals).cpu().double()


@torch.no_grad()
def _copied(copies: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """Copy tensors into earlier copies of theirs, or into new ones if there are none."""
    if not copies:
        return [tensor.detach().clone() for tensor in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies

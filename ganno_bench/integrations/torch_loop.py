"""A trained policy in a PyTorch training loop of the user's own."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, distributed

from ganno_bench.core.errors import ConfigError, one_line
from ganno_bench.core.versions import check_version
from ganno_bench.integrations.groups import (
    base_lr_of,
    initial_decay,
    layer_order,
    set_rate,
    warn_of_fine_tuning,
    warn_of_groups,
    warn_of_order,
)
from ganno_bench.integrations.interval_losses import IntervalLosses, kept_loss
from ganno_bench.integrations.layer_signals import LayerSignals
from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.observations import Array
from ganno_bench.policies.one_run import OneRun
from ganno_bench.policies.policy import load_policy
from ganno_bench.schedulers.shipped import locate_policy
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.signals import LAYER_SIGNALS, RunInfo, Signals

__all__ = ["GannoScheduler"]

_FORMAT = 2
"""Of what `GannoScheduler.state_dict` returns."""


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

    Policies were trained from scratch, with whole networks. Two things keep them within bounds elsewhere: no learning
    rate is above `max_lr`, and a base learning rate as for fine-tuning is warned of.

    Parameters may be frozen and unfrozen, and groups added to the optimizer, in the course of a training. A layer that
    is not trained goes along with the others.

    Under `torch.distributed` all ranks take the same decisions, from the mean of their losses.

    Attributes:
        n_updates: Calls of `step` so far.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_updates: int,
        policy: str | Path,
        *,
        n_layers: int | None = None,
        base_lr: float | None = None,
        max_lr: float | None = None,
        process_group: distributed.ProcessGroup | Literal["local"] | None = None,
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
            base_lr: Base learning rate. None: that of the groups, or their `initial_lr`, which this scheduler and
                torch's leave there, so that one that follows does not begin where the last one ended.
            max_lr: The highest learning rate. None: the top of the range in which the benchmark tunes base learning
                rates, 10 for SGD and 0.1 for Adam and AdamW, or the base learning rate if that is higher.
            process_group: The ranks over which losses are averaged, one all-reduce for each decision; all of them call
                `step` equally often. None: all ranks, if `torch.distributed` is initialised. "local": this one alone.

        Raises:
            ConfigError: There is no such policy, or it needs a group for each layer; the groups' learning rates differ;
                a number is out of range.

        Warns:
            UserWarning: The base learning rate is as for fine-tuning and there is no `max_lr`; the groups are not the
                layers of a network.
        """
        total_updates = _whole("total_updates", total_updates)
        n_layers = None if n_layers is None else _whole("n_layers", n_layers)
        base_lr = None if base_lr is None else _positive("base_lr", base_lr)
        max_lr = None if max_lr is None else _positive("max_lr", max_lr)
        groups = optimizer.param_groups
        base = base_lr_of(groups) if base_lr is None else base_lr
        self.policy = load_policy(locate_policy(str(policy)))
        controller = self.policy.controller
        if n_layers is not None and controller.needs_layers:
            raise ConfigError(
                f"the policy {self.policy.card.name!r} looks at layers or sets their learning rates one by one: "
                "give the optimizer a parameter group for each layer, as layer_groups() makes them, and no n_layers"
            )
        self.optimizer = optimizer
        self._n_layers = n_layers
        self._interval, self._each = self.policy.card.interval, self.policy.card.action.scope == "layer"
        self._needs = controller.needs
        self._order = layer_order(groups)
        self._layers: LayerSignals | None = None
        if not self._needs.isdisjoint(LAYER_SIGNALS):
            self._layers = LayerSignals(self._parameters(), optimizer, self._needs, self._interval)
        self._losses = IntervalLosses(process_group)
        names = {torch.optim.SGD: "sgd", torch.optim.Adam: "adam", torch.optim.AdamW: "adamw"}
        kind = names.get(type(optimizer), "adamw" if "betas" in groups[0] else "sgd")
        decay = max(initial_decay(group) for group in groups)
        self._run = self._run_info(base, decay, total_updates, kind)
        self._max_lr = max(base, OPTIMIZERS[kind].base_lr_range[1]) if max_lr is None else max_lr
        self._is_fresh = not optimizer.state
        self._doubt: str | None = None
        rates = self.get_last_lr()
        if base_lr is None and rates != [base] * len(rates):
            self._doubt = (
                f"the base learning rate is {base:g}, the groups' initial_lr, and not the learning rate that they have "
                f"now ({_range(rates)}); base_lr= chooses it"
            )
        if max_lr is None:
            warn_of_fine_tuning(base, kind, self.policy.card)
        if n_layers is None:
            warn_of_groups(groups, looks_at_layers=controller.needs_layers)
        self._one_run = OneRun(self.policy, self._run, self._max_lr) if OneRun.fits(self.policy) else None
        self._control = controller.init(self._run)  # of no use where there is a OneRun, which has its own
        self._part_rates()
        self.n_updates = 0
        self._next_look = self._next()
        for group in groups:
            set_rate(group, base)
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

        Warns:
            UserWarning: It is called before the optimizer's; losses are negative or not finite; all gradients of the
                first interval are zero; a group was added with a learning rate of its own.
        """
        kept = kept_loss(loss)
        if len(self.optimizer.param_groups) != len(self._order):
            self._adopt()
        n_updates = self.n_updates + 1
        if n_updates >= self._next_look:
            if n_updates >= self._run.total_updates:
                self.n_updates = n_updates
                return
            seen_val_loss = self._seen(val_loss)
        if self._doubt is not None:
            warnings.warn(self._doubt, stacklevel=2)
            self._doubt = None
        if self._is_fresh:
            self._is_fresh = False
            warn_of_order(self.optimizer)
        if self._layers is not None:
            self._layers.record(self.n_updates)
        self.n_updates = n_updates
        self._losses.add(kept)
        if n_updates >= self._next_look:
            train_loss, seen_val_loss = self._losses.means(seen_val_loss, self._device)
            self._lr_block, self._block_begin = self._decide(train_loss, seen_val_loss), n_updates
            self._next_look = self._next()
        self._apply()
        self._prepare()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, of tensors, numbers, strings and lists: enough to go on exactly.

        Of several ranks each has its own losses since the last decision: save all of them, or right after a decision.
        """
        return {
            "format": _FORMAT,
            **self._identity(),
            "n_updates": self.n_updates,
            "control": copy.deepcopy(self._state.state_dict()),
            "lr_block": copy.deepcopy(self._lr_block),
            "block_begin": self._block_begin,
            "losses": self._losses.state(),
            "layers": None if self._layers is None else self._layers.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the optimizer's own state is the optimizer's to restore.

        It does not matter which of the two is restored first, or whether the optimizer was before this scheduler was
        made.

        Raises:
            ConfigError: It is the state of a network with layers of other sizes, or of another policy, base learning
                rate, horizon or kind of optimizer; or it lacks something. Nothing was changed.
            VersionError: A later version of ganno-bench made it.
        """
        if not isinstance(state, Mapping):
            raise ConfigError(f"this is no state of a GannoScheduler, but {type(state).__name__}")
        check_version(state.get("format", 1), _FORMAT)  # the first states did not say
        if len(self.optimizer.param_groups) != len(self._order):
            self._adopt()
        try:
            control = _on_cpu(state["control"])
            weight_decay = float(self._run.weight_decay * control.log_decay.exp())
            n_updates, losses = state["n_updates"], list(state["losses"])
            lr_block, block_begin = copy.deepcopy(state["lr_block"]), state["block_begin"]
            if control.log_factor.shape[1] != self._run.n_layers:
                raise ConfigError(
                    f"the state is of {control.log_factor.shape[1]} layers, this scheduler has {self._run.n_layers}"
                )
            if state.get("format", 1) == 1:
                lr_block = self._of_first_format(lr_block, block_begin, control)
            else:
                self._check_identity(state)
            if self._layers is not None:
                if state.get("layers") is None:
                    raise ConfigError(
                        "the state has nothing of layers: it is of another policy, or of an earlier version"
                    )
                self._layers.load_state_dict(state["layers"])
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise ConfigError(f"this is no state of a GannoScheduler: {one_line(error)}") from error
        self.n_updates = n_updates
        self._state = control
        self._part_rates()
        self._mark(self.optimizer.param_groups)
        self._set_decay(weight_decay)
        self._lr_block, self._block_begin = self._capped(lr_block), block_begin
        self._losses.restore(losses)
        self._doubt, self._is_fresh = None, False
        self._next_look = self._next()
        self._apply()

    @property
    def _state(self) -> ControlState:
        return self._control if self._one_run is None else self._one_run.state

    @_state.setter
    def _state(self, state: ControlState) -> None:
        if self._one_run is None:
            self._control = state
        else:
            self._one_run.state = state

    def _identity(self) -> dict[str, Any]:
        """Return what a state is of: it fits no other."""
        identity = {
            "policy": self.policy.card.name,
            "policy_hash": self.policy.hash,
            "optimizer": self._run.optimizer,
            "total_updates": self._run.total_updates,
            "base_lr": float(self._run.base_lr),
            "max_lr": self._max_lr,
        }
        if self.policy.card.action.decay_multipliers is not None:
            identity["weight_decay"] = float(self._run.weight_decay)
        return identity

    def _check_identity(self, state: Mapping[str, Any]) -> None:
        own = self._identity()
        if (theirs := state["policy_hash"]) != own["policy_hash"]:
            raise ConfigError(
                f"the state is of the policy {state['policy']!r} ({theirs}), this scheduler has {own['policy']!r} "
                f"({own['policy_hash']})"
            )
        for name in list(own)[2:]:
            if state[name] != own[name]:
                hint = f"; {name}= chooses it" if name in ("base_lr", "max_lr", "total_updates") else ""
                raise ConfigError(f"the state's {name} is {state[name]!r}, this scheduler's is {own[name]!r}{hint}")

    def _of_first_format(self, block: list[list[float]], begin: int, control: ControlState) -> list[list[float]]:
        """Return the learning rates of a state that does not say what it is of, if they are what is decided here."""
        factors = control.log_factor if self._each else control.log_factor[:, :1]
        rates = self.policy.card.action.learning_rates(self._run, factors, begin, len(block))[:, 0]
        decided = block if self._each else [row[:1] for row in block]
        if not torch.allclose(rates, torch.tensor(decided, dtype=torch.float64), rtol=1e-6, atol=0.0):
            raise ConfigError(
                "the state's learning rates are those of another policy, horizon or base learning rate "
                f"({float(self._run.base_lr):g} here, base_lr= chooses it); an earlier version made it, which did not "
                "say of which"
            )
        return decided

    @property
    def _device(self) -> torch.device:
        return next(parameter.device for group in self._parameters() for parameter in group)

    def _parameters(self) -> list[list[Tensor]]:
        """Return the parameters of each group, from input to output."""
        groups = self.optimizer.param_groups
        return [list(groups[index]["params"]) for index in self._order]

    def _run_info(self, base_lr: float, weight_decay: float, total_updates: int, kind: str) -> RunInfo:
        # Of layers that are not groups nothing is known but their number.
        groups, n_layers = self.optimizer.param_groups, self._n_layers
        names = tuple(str(groups[index].get("name", index)) for index in self._order)
        sizes = tuple(sum(parameter.numel() for parameter in group) for group in self._parameters())
        return RunInfo(
            layer_names=names if n_layers is None else ("",) * n_layers,
            layer_sizes=sizes if n_layers is None else (sum(sizes) // n_layers,) * n_layers,
            base_lr=torch.tensor([base_lr], dtype=torch.float64),
            weight_decay=torch.tensor([weight_decay], dtype=torch.float64),
            total_updates=total_updates,
            optimizer=kind,
        )

    def _adopt(self) -> None:
        """Take in groups that were added to the optimizer: each begins with the mean of the other layers' factors."""
        groups, before = self.optimizer.param_groups, self._order
        if len(groups) < len(before):
            raise ConfigError(f"the optimizer has {len(groups)} parameter groups, and had {len(before)}")
        base, added = float(self._run.base_lr), groups[len(before) :]
        usual = (base, self.optimizer.defaults.get("lr"), *(float(groups[index]["lr"]) for index in before))
        if own := [float(group["lr"]) for group in added if float(group["lr"]) not in usual]:
            warnings.warn(
                f"a parameter group was added with the learning rate {own[0]:g}; the policy sets it, from the base "
                f"learning rate {base:g} of all groups. max_lr= limits it",
                stacklevel=3,
            )
        self._mark(added)
        self._order = layer_order(groups)
        self._part_rates()
        if self._layers is not None:
            self._layers = self._layers.extended(self._parameters())
        if self._n_layers is not None:
            self._apply()
            return
        run, state = self._run, self._state
        places = {index: place for place, index in enumerate(before)}
        old = [places.get(index) for index in self._order]
        self._run = self._run_info(base, float(run.weight_decay), run.total_updates, run.optimizer)
        state = replace(state, log_factor=_with_means(state.log_factor, old))
        if self._each:
            state = replace(state, hidden=_with_means(state.hidden, old))
            rows = torch.tensor(self._lr_block, dtype=torch.float64)
            self._lr_block = self._capped(_with_means(rows.log(), old).exp().tolist())
        if self._one_run is not None:
            self._one_run = OneRun(self.policy, self._run, self._max_lr)
        self._state = state
        self._apply()

    def _mark(self, groups: Sequence[dict[str, Any]]) -> None:
        """Leave in groups what they began with, for a scheduler that follows."""
        base = float(self._run.base_lr)
        for group in groups:
            group["initial_lr"] = base
            if self.policy.card.action.decay_multipliers is not None and "weight_decay" in group:
                group["initial_weight_decay"] = initial_decay(group)

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
        """Return the learning rates of each update of the next interval, of layers or of all; set the weight decay.

        Groups that were loaded from what had no base learning rate get it again.

        Args:
            train_loss: Mean over the interval that has ended; NaN before the first update.
            val_loss: Validation loss now; NaN if it is not known, or not observed.
        """
        self._mark(self.optimizer.param_groups)
        all_rates = self.get_last_lr()
        rates = [all_rates[index] for index in self._order]
        layers: dict[str, Array] = {}
        if self._layers is not None:
            layers = self._layers.measure(rates) if self.n_updates else self._layers.at_first()
        if self._one_run is None:
            block = self._decide_in_tensors(rates, train_loss, val_loss, layers)
        else:
            lr = np.array(rates) if self._each else rates[0]
            block = self._one_run.decide(self.n_updates, lr, train_loss, val_loss, layers)
        if self._each:
            block = self._with_followers(block)
        return self._capped(block)

    def _with_followers(self, block: list[list[float]]) -> list[list[float]]:
        """Let layers that are frozen, whose agents have nothing to go by, follow the mean of the others."""
        trained = [any(parameter.requires_grad for parameter in group) for group in self._parameters()]
        if all(trained) or not any(trained):
            return block
        places = [place if is_trained else None for place, is_trained in enumerate(trained)]
        state = self._state
        self._state = replace(state, log_factor=_with_means(state.log_factor, places))
        rates = torch.tensor(block, dtype=torch.float64).log()
        followed: list[list[float]] = _with_means(rates, places).exp().tolist()
        # The others' stay as they are, to the last bit.
        return [
            [own if is_trained else mean for own, mean, is_trained in zip(*rows, trained, strict=True)]
            for rows in zip(block, followed, strict=True)
        ]

    def _capped(self, block: list[list[float]]) -> list[list[float]]:
        highest = self._max_lr
        return [[min(rate, highest) for rate in rates] for rates in block]

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
            self._max_lr,
        )
        if controls.weight_decay is not None:
            self._set_decay(float(controls.weight_decay))
        lr_of_layers = controls.lr[:, 0] if self._each else controls.lr[:, 0, :1]
        rates_of_updates: list[list[float]] = lr_of_layers.tolist()
        return rates_of_updates

    def _set_decay(self, weight_decay: float) -> None:
        """Set the weight decay of the groups, in the proportions that they began with."""
        base = float(self._run.weight_decay)
        for group in self.optimizer.param_groups:
            if "initial_weight_decay" in group:
                own = group["initial_weight_decay"]
                group["weight_decay"] = weight_decay if own == base else own * (weight_decay / base)

    def _apply(self) -> None:
        """Set the learning rates of the next update."""
        block, groups = self._lr_block, self.optimizer.param_groups
        rates = block[min(self.n_updates - self._block_begin, len(block) - 1)]
        if self._each:
            for index, rate in zip(self._order, rates, strict=True):
                set_rate(groups[index], rate)
        else:
            for group in groups:
                set_rate(group, rates[0])

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


def _number(value: Tensor | float) -> float:
    return float(value.item() if isinstance(value, Tensor) else value)


def _on_cpu(state: Mapping[str, Any]) -> ControlState:
    """Return a state of its own, wherever it was loaded to."""
    memory = {name: value.cpu().clone() for name, value in state["memory"].items()}
    others = {name: value.cpu().clone() for name, value in state.items() if name != "memory"}
    return ControlState.from_state_dict({**others, "memory": memory})


def _positive(name: str, value: Any) -> float:
    if not (isinstance(value, Real) and 0.0 < float(value) < math.inf):
        raise ConfigError(f"{name} is no positive number (value: {value!r})")
    return float(value)


def _whole(name: str, value: Any) -> int:
    """Return a number of updates or layers, which may be a float, as the quotient of two is.

    Raises:
        ConfigError: It is no whole number, or less than 1.
    """
    number = float(value) if isinstance(value, Real) else math.nan
    if not number.is_integer():
        raise ConfigError(f"{name} is no whole number (value: {value!r})")
    if number < 1:
        raise ConfigError(f"{name} is less than 1 (value: {value})")
    return int(number)


def _range(rates: list[float]) -> str:
    least, most = min(rates), max(rates)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _with_means(values: Tensor, places: list[int | None]) -> Tensor:
    """Return values, shape (n, L, ...), in another order; where it has none, the mean over those that are in it."""
    mean = values[:, [place for place in places if place is not None]].mean(dim=1)
    return torch.stack([mean if place is None else values[:, place] for place in places], dim=1)

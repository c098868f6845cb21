"""A trained policy that sets the learning rates in your own PyTorch training loop."""

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
"""Version of the state that `GannoScheduler.state_dict` returns."""


_TOO_LONG = (
    "step() was called more often than total_updates says ({}): the learning rates no longer change; "
    "give GannoScheduler the number of updates of all epochs together"
)


class GannoScheduler:
    """A learning-rate scheduler for your own PyTorch training loop, driven by a trained policy.

    A policy is a small network that has learned to set learning rates. Every few updates (10 for the shipped policies)
    it reads how training goes, such as the training loss and the norms of the gradients. It then sets the learning rate
    of each parameter group. You train no policy yourself: four are shipped. `ganno-anchored` sets a learning rate for
    each layer. `ganno-light` sets one for the whole network, reads no gradients, and costs the least time.

        import torch
        from torch import nn
        from ganno_bench import GannoScheduler, layer_groups

        inputs, targets = torch.randn(256, 64), torch.randint(10, (256,))
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.SGD(layer_groups(model), lr=0.01, momentum=0.9)
        scheduler = GannoScheduler(optimizer, total_updates=300, policy="ganno-anchored")
        for _ in range(300):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step(loss)

    **When to call `step`.** Call it once per `optimizer.step()`, after it and before the gradients are cleared. A
    policy reads the gradients of that update from `.grad`: after clipping and unscaling, without weight decay.

    - With accumulated gradients, call `step` once per accumulated batch, with the mean of its losses.
    - Under a `torch.amp.GradScaler`, call `step` after `scaler.step(optimizer)`, which unscales the gradients. With a
      fused optimizer, call `scaler.unscale_(optimizer)` before that. An update that the scaler skips counts towards
      `total_updates`. The policy ignores its gradients if a measured one is not finite, or if the update was the last
      one before a decision.
    - Under `torch.distributed`, all ranks take the same decisions, from the mean of their losses.

    **Optimizers.** Any `torch.optim` optimizer works. The shipped policies were trained with SGD with momentum and
    AdamW: an optimizer with `betas` counts as Adam, any other as SGD. Sparse gradients need a policy that reads none,
    such as `ganno-light`. Learning rates that are tensors are changed in place, as by torch's own schedulers. Groups
    that share one tensor get a tensor each.

    **Limits.** Policies were trained on whole networks from scratch. Two things limit them elsewhere: no learning rate
    exceeds `max_lr`, and a base learning rate that suits fine-tuning causes a warning.

    **Frozen and new layers.** You may freeze and unfreeze parameters, and add groups to the optimizer, during training.
    A frozen layer gets the mean learning rate (geometric) of the other layers. A new group starts from that mean.

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
        """Set the learning rates of the first update.

        Args:
            optimizer: Has one parameter group per layer, from input to output: make it from `layer_groups(model)`. All
                groups start with the same learning rate, the base learning rate.
            total_updates: The number of updates (`optimizer.step()` calls) of the whole training. Later calls of `step`
                leave the learning rates unchanged.
            policy: The name of a shipped policy (`ganno-anchored`, `ganno-light`, `ganno-global`, `ganno`), or the path
                of a policy's folder, such as `runs/train/mine/policy`.
            n_layers: The number of layers of the network, if the parameter groups are not its layers:
                `len(layer_groups(model))`. All groups then get the same learning rate. Only for a policy with a single
                agent that reads no gradients or parameters, such as `ganno-light`. None: each group is a layer.
            base_lr: The base learning rate, which the policy's factors multiply. None: the groups' `initial_lr` if they
                have one, else their `lr`. This scheduler and torch's own leave `initial_lr` in the groups, so a later
                scheduler starts from the same base learning rate.
            max_lr: The highest learning rate that a group can get. None: 10 for SGD and 0.1 for Adam and AdamW, the top
                of the benchmark's tuning range; or the base learning rate if it is higher.
            process_group: The ranks over which losses are averaged, by one all-reduce per decision. All of them must
                call `step` equally often. None: all ranks, if `torch.distributed` is initialised. "local": only this
                rank.

        Raises:
            ConfigError: `optimizer` has no parameter groups; there is no such policy; the policy needs a group for each
                layer, but `n_layers` is given; the groups start with different learning rates; or a number is out of
                range.

        Warns:
            UserWarning: The base learning rate is below a tenth of the usual one and `max_lr` is not given; or the
                groups do not look like the layers of a network.
        """
        total_updates = _whole("total_updates", total_updates)
        n_layers = None if n_layers is None else _whole("n_layers", n_layers)
        base_lr = None if base_lr is None else _positive("base_lr", base_lr)
        max_lr = None if max_lr is None else _positive("max_lr", max_lr)
        if not hasattr(optimizer, "param_groups"):
            raise ConfigError(f"optimizer: must be a torch optimizer (value: a {type(optimizer).__name__})")
        groups = optimizer.param_groups
        base = base_lr_of(groups) if base_lr is None else base_lr
        self.policy = load_policy(locate_policy(str(policy)))
        controller = self.policy.controller
        if n_layers is not None and controller.needs_layers:
            raise ConfigError(
                f"n_layers: must be left out, because the policy {self.policy.card.name!r} reads each layer or sets "
                f"its learning rate (value: {n_layers}); make the optimizer from layer_groups(model)"
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
        self._late_warning: str | None = None  # waits for the first step: a restored state makes it needless
        rates = self.get_last_lr()
        if base_lr is None and rates != [base] * len(rates):
            self._late_warning = (
                f"the base learning rate is {base:g}, the groups' 'initial_lr'; their learning rate now is "
                f"{_range(rates)}; give base_lr= to choose the base learning rate"
            )
        if max_lr is None:
            warn_of_fine_tuning(base, kind, self.policy.card)
        if n_layers is None:
            warn_of_groups(groups, needs_layers=controller.needs_layers)
        self._one_run = OneRun(self.policy, self._run, self._max_lr) if OneRun.fits(self.policy) else None
        self._control = controller.init(self._run)  # unused if there is a OneRun, which holds the state itself
        self._unshare_rates()
        self.n_updates = 0
        self._next_event = self._next()
        for group in groups:
            set_rate(group, base)
        self._lr_block, self._block_begin = self._decide(math.nan, math.nan), 0
        self._apply()
        self._prepare()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each parameter group, in the optimizer's order, as torch's schedulers do."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, loss: Tensor | float, val_loss: Tensor | float | None = None) -> None:
        """Record the update that the optimizer has just made, and set the learning rates of the next one.

        Args:
            loss: The mean training loss of the update's batch. Policies were trained on cross-entropies in nats
                (natural logarithm).
            val_loss: A validation loss, in the same unit. Only policies that observe one need it, and only at updates
                after which they decide. The shipped policies do not.

        Raises:
            ConfigError: `loss` is not a single number; the policy reads gradients, but they are missing, were cleared,
                or are sparse; it reads a validation loss, but `val_loss` is missing; or a parameter group was removed.

        Warns:
            UserWarning: `step` was called before `optimizer.step()`, or more often than `total_updates` (once); a loss
                is negative, or no loss of a decision interval is finite; all gradients of the first decision interval
                are zero; a group was added with another learning rate; or the groups' `initial_lr` differs from their
                learning rate.
        """
        kept = kept_loss(loss)
        if len(self.optimizer.param_groups) != len(self._order):
            self._adopt()
        n_updates = self.n_updates + 1
        if n_updates >= self._next_event:
            if n_updates >= self._run.total_updates:
                self.n_updates = n_updates
                if n_updates == self._run.total_updates + 1:
                    warnings.warn(_TOO_LONG.format(self._run.total_updates), stacklevel=2)
                return
            seen_val_loss = self._observed(val_loss)
        if self._late_warning is not None:
            warnings.warn(self._late_warning, stacklevel=2)
            self._late_warning = None
        if self._is_fresh:
            self._is_fresh = False
            warn_of_order(self.optimizer)
        if self._layers is not None:
            self._layers.record(self.n_updates)
        self.n_updates = n_updates
        self._losses.add(kept)
        if n_updates >= self._next_event:
            train_loss, seen_val_loss = self._losses.means(seen_val_loss, self._device)
            self._lr_block, self._block_begin = self._decide(train_loss, seen_val_loss), n_updates
            self._next_event = self._next()
        self._apply()
        self._prepare()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, from which training resumes exactly; it holds tensors, numbers, strings and lists.

        Under `torch.distributed` each rank has its own losses since the last decision. Save the states of all ranks, or
        save right after a decision.
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
        """Restore a state that `state_dict` returned. Restore the optimizer's state by the optimizer's own method.

        Any order works: you may restore the optimizer before or after this scheduler, and before or after making it.

        Raises:
            ConfigError: The state comes from a network with layers of other sizes, or from another policy, base
                learning rate, `max_lr`, horizon or kind of optimizer; or it lacks a key. The scheduler is unchanged.
            VersionError: A later version of ganno-bench wrote the state.
        """
        if not isinstance(state, Mapping):
            raise ConfigError(
                f"not a state of a GannoScheduler: expected a mapping, got {type(state).__name__}; "
                "give the result of state_dict()"
            )
        check_version(state.get("format", 1), _FORMAT)  # states of format 1 have no key 'format'
        if len(self.optimizer.param_groups) != len(self._order):
            self._adopt()
        try:
            control = _on_cpu(state["control"])
            weight_decay = float(self._run.weight_decay * control.log_decay.exp())
            n_updates, losses = state["n_updates"], list(state["losses"])
            lr_block, block_begin = copy.deepcopy(state["lr_block"]), state["block_begin"]
            if control.log_factor.shape[1] != self._run.n_layers:
                raise ConfigError(
                    f"the state has {control.log_factor.shape[1]} layers, this scheduler has {self._run.n_layers}; "
                    "make the scheduler for the same network"
                )
            if state.get("format", 1) == 1:
                lr_block = self._of_first_format(lr_block, block_begin, control)
            else:
                self._check_identity(state)
            if self._layers is not None:
                if state.get("layers") is None:
                    raise ConfigError(
                        "the state has no layer signals: another policy or an earlier version of ganno-bench wrote it"
                    )
                self._layers.load_state_dict(state["layers"])
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise ConfigError(
                f"not a state of a GannoScheduler: {one_line(error)}; give the result of state_dict()"
            ) from error
        self.n_updates = n_updates
        self._state = control
        self._unshare_rates()
        self._mark(self.optimizer.param_groups)
        self._set_decay(weight_decay)
        self._lr_block, self._block_begin = self._capped(lr_block), block_begin
        self._losses.restore(losses)
        self._late_warning, self._is_fresh = None, False
        self._next_event = self._next()
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
        """Return the settings that a state belongs to. It fits only a scheduler with equal ones."""
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
                f"the state comes from the policy {state['policy']!r} (hash {theirs}), this scheduler has "
                f"{own['policy']!r} (hash {own['policy_hash']}); make the scheduler with the same policy"
            )
        for name in list(own)[2:]:
            if state[name] != own[name]:
                is_argument = name in ("base_lr", "max_lr", "total_updates")
                hint = f"make the scheduler with {name}={state[name]!r}" if is_argument else "make the same optimizer"
                raise ConfigError(f"the state's {name} is {state[name]!r}, this scheduler's is {own[name]!r}; {hint}")

    def _of_first_format(self, block: list[list[float]], begin: int, control: ControlState) -> list[list[float]]:
        """Return the learning rates of a state of format 1, which has no settings, if they fit this scheduler."""
        factors = control.log_factor if self._each else control.log_factor[:, :1]
        rates = self.policy.card.action.learning_rates(self._run, factors, begin, len(block))[:, 0]
        decided = block if self._each else [row[:1] for row in block]
        if not torch.allclose(rates, torch.tensor(decided, dtype=torch.float64), rtol=1e-6, atol=0.0):
            raise ConfigError(
                "the state's learning rates belong to another policy, horizon or base learning rate "
                f"({float(self._run.base_lr):g} here; give base_lr= to change it); an earlier version of ganno-bench "
                "wrote the state, without these settings"
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
        # If the groups are not the layers, only the number of layers is known.
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
        """Include groups that were added to the optimizer. Each begins with the mean of the other layers' factors."""
        groups, before = self.optimizer.param_groups, self._order
        if len(groups) < len(before):
            raise ConfigError(
                f"the optimizer has {len(groups)} parameter groups, but had {len(before)}; make a new scheduler"
            )
        base, added = float(self._run.base_lr), groups[len(before) :]
        usual = (base, self.optimizer.defaults.get("lr"), *(float(groups[index]["lr"]) for index in before))
        if own := [float(group["lr"]) for group in added if float(group["lr"]) not in usual]:
            warnings.warn(
                f"a parameter group was added with the learning rate {own[0]:g}; the policy overwrites it, from the "
                f"base learning rate {base:g} of all groups; give max_lr= to limit it",
                stacklevel=3,
            )
        self._mark(added)
        self._order = layer_order(groups)
        self._unshare_rates()
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
        """Write the initial values into the groups, for a later scheduler."""
        base = float(self._run.base_lr)
        for group in groups:
            group["initial_lr"] = base
            if self.policy.card.action.decay_multipliers is not None and "weight_decay" in group:
                group["initial_weight_decay"] = initial_decay(group)

    def _next(self) -> int:
        """Return the number of updates after which the next decision, or the end, is due."""
        decision = self.n_updates - self.n_updates % self._interval + self._interval
        return min(decision, self._run.total_updates)

    def _observed(self, val_loss: Tensor | float | None) -> float:
        """Return the validation loss for a decision; NaN if the policy observes none."""
        if "val_loss" not in self._needs:
            return math.nan
        if val_loss is None:
            name = self.policy.card.name
            raise ConfigError(
                f"val_loss: must be given, because the policy {name!r} observes it (value: None); "
                "call step(loss, val_loss)"
            )
        return _number(val_loss)

    def _decide(self, train_loss: float, val_loss: float) -> list[list[float]]:
        """Return the learning rates for each update of the next decision interval, and set the weight decay.

        Args:
            train_loss: Mean over the decision interval that has ended; NaN before the first update.
            val_loss: Validation loss now; NaN if it is unknown, or not observed.

        Returns:
            For each update the learning rate of each layer, or the one of the whole network.
        """
        self._mark(self.optimizer.param_groups)  # a loaded optimizer state may lack the initial values
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
        """Let frozen layers, whose agents have nothing to observe, follow the geometric mean of the others."""
        trained = [any(parameter.requires_grad for parameter in group) for group in self._parameters()]
        if all(trained) or not any(trained):
            return block
        places = [place if is_trained else None for place, is_trained in enumerate(trained)]
        state = self._state
        self._state = replace(state, log_factor=_with_means(state.log_factor, places))
        rates = torch.tensor(block, dtype=torch.float64).log()
        followed: list[list[float]] = _with_means(rates, places).exp().tolist()
        # The learning rates of trained layers stay as they are, to the last bit.
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
        """Set the weight decay of the groups, in their initial proportions."""
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

    def _unshare_rates(self) -> None:
        """Give each group its own tensor if learning rates are tensors: an optimizer gives all groups the same one."""
        seen: set[int] = set()
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor) and id(group["lr"]) in seen:
                group["lr"] = group["lr"].clone()
            seen.add(id(group["lr"]))

    def _prepare(self) -> None:
        """Store the values that the last update of a decision interval will change."""
        if self._layers is not None and (self.n_updates + 1) % self._interval == 0:
            self._layers.prepare()


def _number(value: Tensor | float) -> float:
    return float(value.item() if isinstance(value, Tensor) else value)


def _on_cpu(state: Mapping[str, Any]) -> ControlState:
    """Return a copy of a state, on the CPU."""
    memory = {name: value.cpu().clone() for name, value in state["memory"].items()}
    others = {name: value.cpu().clone() for name, value in state.items() if name != "memory"}
    return ControlState.from_state_dict({**others, "memory": memory})


def _positive(name: str, value: Any) -> float:
    if not (isinstance(value, Real) and 0.0 < float(value) < math.inf):
        raise ConfigError(f"{name}: must be a finite number above 0 (value: {value!r})")
    return float(value)


def _whole(name: str, value: Any) -> int:
    """Return a number of updates or layers as an integer; a quotient such as 1200 / 4 is a float.

    Raises:
        ConfigError: The value is not a whole number, or is below 1.
    """
    number = float(value) if isinstance(value, Real) else math.nan
    if not number.is_integer():
        raise ConfigError(f"{name}: must be a whole number (value: {value!r})")
    if number < 1:
        raise ConfigError(f"{name}: must be at least 1 (value: {value})")
    return int(number)


def _range(rates: list[float]) -> str:
    least, most = min(rates), max(rates)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _with_means(values: Tensor, places: list[int | None]) -> Tensor:
    """Return values, shape (n, L, ...), in the order of `places`; None gives the mean over the values it names."""
    mean = values[:, [place for place in places if place is not None]].mean(dim=1)
    return torch.stack([mean if place is None else values[:, place] for place in places], dim=1)

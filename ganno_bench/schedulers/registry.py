"""Finds scheduler classes by names such as `cosine(final_factor=0.1)`, and checks these.

A name is registered, `./file.py:Name`, a name in a library (`torch:Class`, `transformers:NAME`, `timm:Class`,
`pytorch-optimizer:Class`), `policy:FOLDER`, or a control entry such as `untrained:FOLDER` (see `controls.py`).
Except for policies and control entries, `(key=value, ...)` may follow: literal values that pin hyperparameters. Pinned
hyperparameters are not tuned, and are part of the entry's name in tables. With `default:` in front, nothing is tuned:
the scheduler competes zero-shot, as policies do.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, UserError, did_you_mean, one_line
from ganno_bench.core.plugin_file import source_hash
from ganno_bench.core.process_state import undisturbed
from ganno_bench.core.registry import Origin, Registry, origins
from ganno_bench.policies.observations import OBSERVATIONS
from ganno_bench.policies.policy import load_policy
from ganno_bench.schedulers.base import Scheduler
from ganno_bench.schedulers.controls import CONTROLS, Replay, control_scheduler
from ganno_bench.schedulers.library_schedule import LibrarySchedule
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry, Released
from ganno_bench.schedulers.optimizer_library import library_optimizer
from ganno_bench.schedulers.policy import PolicyScheduler, policy_scheduler
from ganno_bench.schedulers.shipped import apart_from_shipped, locate_policy, shipped_policies
from ganno_bench.schedulers.timm_schedule import timm_schedule
from ganno_bench.schedulers.torch_adapter import torch_scheduler
from ganno_bench.schedulers.transformers_schedule import transformers_schedule
from ganno_bench.schedulers.values import UnfitError, declared_types, default_values, fit
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.signals import NEEDS, Signals

__all__ = [
    "PREFIXES",
    "SCHEDULERS",
    "Reference",
    "SchedulerEntry",
    "SchedulerRow",
    "code_of",
    "list_schedulers",
    "load_scheduler",
    "parse_reference",
]

_DEFAULT, _POLICY = "default:", "policy:"
_LIBRARIES: Mapping[str, Callable[[str], type[Scheduler]]] = {
    "torch:": torch_scheduler,
    "transformers:": transformers_schedule,
    "timm:": timm_schedule,
    "pytorch-optimizer:": library_optimizer,
}
"""Prefix of a name -> function from the name in the library to a scheduler class. It imports the library."""
_OF_POLICIES = (_POLICY, *(f"{kind}:" for kind in CONTROLS))
PREFIXES = (_DEFAULT, *_LIBRARIES, *_OF_POLICIES)
"""Prefixes of names that are neither registered nor files."""
_RESERVED = ("base_lr", "weight_decay")
_ALWAYS_GIVEN = frozenset(field.name for field in fields(Signals)) - set(NEEDS)

SCHEDULERS = Registry(
    "scheduler",
    {
        "constant": "ganno_bench.schedulers.closed_form:Constant",
        "cosine": "ganno_bench.schedulers.closed_form:Cosine",
        "cosine-restarts": "ganno_bench.schedulers.phased:CosineRestarts",
        "depth-factor": "ganno_bench.schedulers.layerwise:DepthFactor",
        "exponential": "ganno_bench.schedulers.closed_form:Exponential",
        "hypergradient": "ganno_bench.schedulers.reactive:Hypergradient",
        "linear": "ganno_bench.schedulers.closed_form:Linear",
        "one-cycle": "ganno_bench.schedulers.phased:OneCycle",
        "plateau": "ganno_bench.schedulers.reactive:Plateau",
        "polynomial": "ganno_bench.schedulers.closed_form:Polynomial",
        "prodigy": "ganno_bench.schedulers.optimizer_entry:Prodigy",
        "rex": "ganno_bench.schedulers.closed_form:Rex",
        "schedule-free": "ganno_bench.schedulers.optimizer_entry:ScheduleFree",
        "step": "ganno_bench.schedulers.closed_form:Step",
        "trust-ratio": "ganno_bench.schedulers.layerwise:TrustRatio",
        "warmup-cosine": "ganno_bench.schedulers.phased:WarmupCosine",
        "wsd": "ganno_bench.schedulers.phased:WarmupStableDecay",
    },
    group="ganno_bench.schedulers",
    prefixes=PREFIXES,
    accepts=lambda value: isinstance(value, type) and issubclass(value, Scheduler),
)


@dataclass(frozen=True)
class Reference:
    """A parsed name of an entry.

    Attributes:
        name: The part before the parentheses.
        pinned: Pinned hyperparameters and their values.
    """

    name: str
    pinned: Mapping[str, Any]


@dataclass(frozen=True)
class SchedulerEntry:
    """An entry: the checked class of a scheduler, with the hyperparameters that the user pinned.

    Attributes:
        name: Name in tables: the registered name, the kebab-case name of a file's class, `torch:Class`, or `policy:`
            (`untrained:`, ...) and the name on the card. If a shipped policy has the same name, the hash of the policy
            follows: `policy:ganno@1a2b3c4d`. Pinned hyperparameters follow: `cosine(final_factor=0.1)`.
        ref: The name by which it was loaded.
        cls: The class.
        pinned: Hyperparameters that the user pinned.
        search_space: Optuna distributions of the tuned hyperparameters, without base learning rate and weight decay.
        code: Identifies the code; results of other code belong to another scheduler. See `code_of`.
        zero_shot: Whether nothing is tuned, not even base learning rate and weight decay.
        plugins: Origins of code that packages bring: of the class, and of a policy's observations.
    """

    name: str
    ref: str
    cls: type[Scheduler]
    pinned: Mapping[str, Any]
    search_space: Mapping[str, BaseDistribution]
    code: str
    zero_shot: bool = False
    plugins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """A hash of `code`, 16 hexadecimal digits, for the names of folders and studies."""
        return hashlib.sha256(self.code.encode()).hexdigest()[:16]

    def base_lr(self, optimizer: str) -> float:
        """Return the default base learning rate on workloads with an optimizer."""
        if issubclass(self.cls, OptimizerEntry):
            return self.cls.released(optimizer).base_lr
        return OPTIMIZERS[optimizer].base_lr

    def open_optimizer(self, optimizer: str) -> str | None:
        """Return `package.Class` of the optimizer that replaces a workload's, or None if the entry keeps that."""
        if issubclass(self.cls, OptimizerEntry):
            return ".".join([*filter(None, [self.cls.package]), self.cls.released(optimizer).name])
        return None

    @property
    def replaces(self) -> Mapping[str, Released]:
        """Name of a workload's optimizer -> its replacement; empty for entries that keep the optimizer."""
        return self.cls.replaces if issubclass(self.cls, OptimizerEntry) else {}

    @property
    def packages(self) -> tuple[str, ...]:
        """Names of the third-party packages that it needs."""
        released = self.cls.package if issubclass(self.cls, OptimizerEntry | LibrarySchedule) else None
        brought = (origin.package for origin in self.plugins.values())
        return tuple(dict.fromkeys(filter(None, (released, *brought))))

    def build(self, config: Mapping[str, Any]) -> Scheduler:
        """Make the scheduler.

        Args:
            config: Values of some hyperparameters. The others are pinned or keep their default.

        Raises:
            UnknownNameError: A key is not a hyperparameter.
            ConfigError: A value has the wrong type or differs from the pinned value, or the class refuses it.
            PluginError: The class raises any other error.
        """
        config = _check_values(self.name, self.cls, config)
        for key in config.keys() & self.pinned.keys():
            if config[key] != self.pinned[key]:
                raise ConfigError(
                    f"scheduler {self.name!r}: {key!r} must be {self.pinned[key]!r}, its pinned value "
                    f"(value: {config[key]!r})"
                )
        try:
            with undisturbed(f"scheduler {self.name!r}: making it", may_draw=True):
                return self.cls(**{**self.pinned, **config})
        except ConfigError as error:  # the class refuses the values
            raise ConfigError(f"scheduler {self.ref!r}: {error}") from error
        except UserError:
            raise
        except Exception as error:
            raise PluginError(f"scheduler {self.name!r} cannot be made: {one_line(error)}") from error

    def defaults(self) -> dict[str, Any]:
        """Return the default value of every tuned hyperparameter, by name."""
        defaults, types = default_values(self.cls), declared_types(self.cls)
        return {key: fit(defaults[key], types[key]) for key in defaults if key in self.search_space}


@dataclass(frozen=True)
class SchedulerRow:
    """One line of the list of schedulers.

    Attributes:
        name: The registered name, or `policy:NAME`.
        summary: First line of the class's docstring.
        tuned: Names of the tuned hyperparameters, without base learning rate and weight decay.
        needs: Optional signals that it reads.
        source: `built-in`, `shipped` for a policy, or the name and version of the package that brings it.
        error: Why it cannot be used, or None.
    """

    name: str
    summary: str
    tuned: tuple[str, ...]
    needs: tuple[str, ...]
    source: str
    error: str | None


def parse_reference(ref: str, kind: str = "scheduler") -> Reference:
    """Parse the name of an entry, without looking anything up.

    Args:
        ref: `NAME` or `NAME(key=value, ...)`.
        kind: What it names, for messages.

    Raises:
        ConfigError: It is not of the form `NAME(key=value, ...)` with literal values.
    """
    if ref.strip().startswith(_OF_POLICIES):  # policies have nothing to pin, and a path may have parentheses
        return Reference(ref.strip(), {})
    # The path may contain parentheses.
    match = re.fullmatch(r"\s*(.*\.py:\w*|[^()]*?)\s*(\(.*\))?\s*", ref, re.DOTALL)
    try:
        if match is None or not match[1]:
            raise SyntaxError
        call = ast.parse(f"f{match[2] or '()'}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise SyntaxError
        if not all(keyword.arg for keyword in call.keywords):  # **mapping
            raise SyntaxError
    except (SyntaxError, ValueError):
        raise ConfigError(f"{kind} name {ref!r} must have the form NAME or NAME(key=value, ...)") from None
    pinned: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg in pinned:
            raise ConfigError(f"{kind} name {ref!r} gives {keyword.arg!r} twice")
        try:
            pinned[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            raise ConfigError(
                f"{kind} name {ref!r}: the value of {keyword.arg!r} must be a number, a string in "
                f"quotes, True or False (value: {ast.unparse(keyword.value)})"
            ) from None
    return Reference(match[1], pinned)


def load_scheduler(ref: str) -> SchedulerEntry:
    """Load the scheduler with a name, and check its class.

    Args:
        ref: `NAME`, `./file.py:Name`, `torch:Class`, `transformers:NAME`, `timm:Class` or `pytorch-optimizer:Class`,
            optionally with `(key=value, ...)` after it, and with `default:` in front for a zero-shot entry. Or
            `policy:POLICY`, where POLICY is a folder or the name of a shipped policy. Or a control entry, see
            `controls.py`: `untrained:POLICY`, `random:POLICY`, `mean-curve:POLICY`, `profile:POLICY`,
            `curve-profile:POLICY`, `without:FEATURE:POLICY`.

    Raises:
        UnknownNameError: There is no such scheduler, name in a library, hyperparameter or observation; the message has
            the nearest name.
        ConfigError: The name is malformed, a pinned value has the wrong type, or the class refuses it.
        PluginError: The class cannot be imported, it breaks a rule that the message names, or its code changed state
            that the whole process shares.
        MissingPackageError: Its library is not installed.
    """
    with undisturbed(f"scheduler {ref.strip()!r}: loading it", may_draw=True):
        return _load_scheduler(ref.strip())


def _load_scheduler(ref: str) -> SchedulerEntry:
    reference = parse_reference(ref.removeprefix(_DEFAULT))
    name = reference.name
    library, colon, within = name.partition(":")
    if (load_from := _LIBRARIES.get(library + colon)) is not None:
        cls: Any = load_from(within)
    elif name.startswith(_POLICY):
        cls = policy_scheduler(str(locate_policy(within)))
        name = f"{_POLICY}{cls.__name__}{apart_from_shipped(cls.policy)}"  # never a registered name
    elif name.startswith(_OF_POLICIES):
        cls = control_scheduler(name)
        policy = load_policy(locate_policy(within.partition(":")[2] if library == "without" else within))
        name = f"{cls.__name__}{apart_from_shipped(policy)}"
    else:
        cls = SCHEDULERS.load(name)
    _check_class(name, cls)
    plugins = _plugins(name, cls)
    space = _check_search_space(name, cls)
    if ".py:" in name:
        name = _kebab_case(cls.__name__)
        if (other := SCHEDULERS.entries().get(name)) is not None:
            raise PluginError(
                f"scheduler {reference.name!r} would be called {name!r} in tables, which is taken ({other.source}); "
                "rename the class"
            )
    pinned = _check_values(name, cls, reference.pinned)
    for key in pinned.keys() & space.keys():
        choices = space[key]
        if isinstance(choices, CategoricalDistribution) and pinned[key] not in choices.choices:
            raise ConfigError(f"scheduler {name!r}: {key!r} must be one of {choices.choices} (value: {pinned[key]!r})")
    arguments = ", ".join(f"{key}={pinned[key]!r}" for key in sorted(pinned))
    untuned = ref.startswith(_DEFAULT) and not cls.zero_shot
    zero_shot = untuned or cls.zero_shot
    entry = SchedulerEntry(
        name=(f"{name}({arguments})" if arguments else name) + ("@default" if untuned else ""),
        ref=ref,
        cls=cls,
        pinned=pinned,
        search_space={key: value for key, value in space.items() if key not in pinned and not zero_shot},
        code=code_of(cls, plugins),
        zero_shot=zero_shot,
        plugins=plugins,
    )
    entry.build({})
    return entry


def list_schedulers() -> list[SchedulerRow]:
    """Describe every registered scheduler, then every shipped policy, each sorted by name.

    A scheduler that cannot be loaded has an error in its row; the others are not affected.
    """
    sources = {name: registered.source for name, registered in SCHEDULERS.entries().items()}
    sources |= {f"{_POLICY}{name}": "shipped" for name in shipped_policies()}
    rows = []
    for name, source in sources.items():
        try:
            entry = load_scheduler(name)
        except UserError as error:
            rows.append(SchedulerRow(name, "", (), (), source, str(error)))
        else:
            summary = (inspect.getdoc(entry.cls) or "").partition("\n")[0]
            tuned, needs = tuple(entry.search_space), tuple(sorted(entry.cls.needs))
            rows.append(SchedulerRow(name, summary, tuned, needs, source, None))
    return rows


def _check_class(name: str, cls: Any) -> None:
    problem, needs = None, getattr(cls, "needs", None)
    if not (isinstance(cls, type) and issubclass(cls, Scheduler)):
        problem = "is not a subclass of ganno_bench.schedulers.Scheduler"
    elif "__dataclass_params__" not in vars(cls):
        problem = "is not a dataclass; put @dataclass(frozen=True) above the class"
    elif cls.__abstractmethods__:
        problem = f"does not define {', '.join(sorted(cls.__abstractmethods__))}"
    elif bare := [field.name for field in fields(cls) if not _has_default(field)]:
        problem = f"has no default for {bare[0]!r}; every hyperparameter needs one"
    elif reserved := [field.name for field in fields(cls) if field.name in _RESERVED]:
        problem = f"has a field {reserved[0]!r}, which the benchmark sets; remove it and read it from RunInfo"
    elif not isinstance(needs, Set):
        problem = f"has a `needs` that is not a frozenset of names of signals (value: {needs!r})"
    elif given := sorted(needs & _ALWAYS_GIVEN):
        problem = f"needs {given[0]!r}, which every scheduler receives; leave it out of `needs`"
    elif unknown := sorted(needs - set(NEEDS)):
        problem = f"needs the unknown signal {unknown[0]!r}{did_you_mean(unknown[0], NEEDS)}"
    elif cls.interval is not None and not (type(cls.interval) is int and cls.interval >= 1):
        problem = f"has an `interval` that is neither None nor a whole number of at least 1 (value: {cls.interval!r})"
    if problem is not None:
        raise PluginError(f"scheduler {name!r} {problem}")


def _check_search_space(name: str, cls: type[Scheduler]) -> dict[str, BaseDistribution]:
    try:
        space: dict[str, Any] = dict(cls.search_space())
        defaults, types = default_values(cls), declared_types(cls)
    except Exception as error:
        raise PluginError(f"scheduler {name!r}: search_space() raised {one_line(error)}") from error
    for key, distribution in space.items():
        if key not in defaults:
            raise PluginError(
                f"scheduler {name!r}: search_space() has {key!r}, which is not a field{did_you_mean(key, defaults)}"
            )
        if not isinstance(distribution, BaseDistribution):
            raise PluginError(
                f"scheduler {name!r}: search_space() has no Optuna distribution for {key!r} (value: {distribution!r})"
            )
        proposed = _proposed(distribution)
        if odd := [value for value in proposed if not isinstance(value, str | bool | int | float)]:
            raise PluginError(
                f"scheduler {name!r}: search_space() has the choice {odd[0]!r} for {key!r}; "
                "a choice must be a str, a bool, an int or a float"
            )
        try:
            inside = distribution._contains(distribution.to_internal_repr(defaults[key]))
        except ValueError:
            inside = False
        if not inside:
            raise PluginError(
                f"scheduler {name!r}: the default of {key!r} must be in its {distribution} (value: {defaults[key]!r})"
            )
        for value in proposed:
            try:
                fit(value, types[key])
            except UnfitError as error:
                raise PluginError(
                    f"scheduler {name!r}: {key!r} must be {error}, but search_space() proposes {value!r}"
                ) from None
    return space


def _proposed(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return examples of the values that a distribution proposes: all choices, or both ends."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return tuple(distribution.to_external_repr(getattr(distribution, end)) for end in ("low", "high"))


def _check_values(name: str, cls: type[Scheduler], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, converted to the types of their fields: an int becomes a float if a float is declared."""
    types, defaults, checked = declared_types(cls), default_values(cls), {}
    for key, value in values.items():
        if key not in types:
            raise UnknownNameError(f"scheduler {name!r} has no hyperparameter {key!r}{did_you_mean(key, types)}")
        try:
            checked[key] = fit(value, types[key])
        except UnfitError as error:
            like = "" if defaults[key] is None else f" like {defaults[key]!r}"
            raise ConfigError(f"scheduler {name!r}: {key!r} must be {error}{like} (value: {value!r})") from None
    return checked


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _plugins(name: str, cls: type[Scheduler]) -> dict[str, Origin]:
    """Return the origins of code that packages bring: of the scheduler, and of a policy's observations.

    Files of the user and built-in code have no origin here; `code_of` covers them.
    """
    named = [(SCHEDULERS, name)] if name in SCHEDULERS.entries() else []
    if issubclass(cls, PolicyScheduler):
        named += [(OBSERVATIONS, observation) for observation in cls.policy.card.observation]
    return origins(named)


def code_of(cls: type[Scheduler], plugins: Mapping[str, Origin]) -> str:
    """Return a text that identifies the code of a scheduler, parts separated by commas.

    - `revision 1`: the revision of a built-in class, also of one from which a plugin derives;
    - `policy 6a1c...`: a hash of card and weights of a policy, or of a control of the policy;
    - `transformers 5.24.0`: the release of the library that contains the schedule or optimizer;
    - `source 07d9...`: a hash of the file that defines a plugin and of the neighbouring files that it imports. For a
      class of a package: of the modules that define the class and its bases;
    - `scheduler NAME: PACKAGE VERSION, code ...`: code that a package brings, including observations of a policy.
    """
    parts = []
    modules = {base.__module__: None for base in cls.__mro__ if issubclass(base, Scheduler)}
    foreign = [name for name in modules if name.partition(".")[0] != "ganno_bench"]
    if foreign:
        files = [Path(str(sys.modules[name].__file__)) for name in foreign]
        parts.append(f"source {source_hash(*files, beside=not plugins)}")
    own = next(base for base in cls.__mro__ if issubclass(base, Scheduler) and base.__module__ not in foreign)
    if own.revision is not None:
        parts.append(f"revision {own.revision}")
    if issubclass(cls, PolicyScheduler | Replay):
        parts.append(f"policy {cls.identity}")
    elif issubclass(cls, OptimizerEntry | LibrarySchedule) and cls.release():
        parts.append(cls.release())
    return ", ".join([*parts, *(f"{name}: {origin}" for name, origin in plugins.items())])


def _kebab_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).replace("_", "-").lower()

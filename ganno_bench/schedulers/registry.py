"""From a reference on the command line to a scheduler class that has been checked.

A reference is `NAME`, `./file.py:Name`, something of a library (`torch:Class`, `transformers:NAME`, `timm:Class`,
`pytorch-optimizer:Class`), `policy:FOLDER` or a control of a policy such as `untrained:FOLDER` (see `controls.py`).
But for policies, `(key=value, ...)` may follow: literal values that pin hyperparameters. What is pinned is not tuned,
and is part of the entry's name in tables. With `default:` before it, nothing of a scheduler is tuned: it competes
zero-shot, as policies do.
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

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, UserError, did_you_mean
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
"""What a reference begins with -> name in the library to scheduler class; a library is imported when it is named."""
_OF_POLICIES = (_POLICY, *(f"{kind}:" for kind in CONTROLS))
PREFIXES = (_DEFAULT, *_LIBRARIES, *_OF_POLICIES)
"""What a reference may begin with that is no registered name and no file."""
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
    """A reference, taken apart.

    Attributes:
        name: What comes before the parentheses.
        pinned: Hyperparameters and their values.
    """

    name: str
    pinned: Mapping[str, Any]


@dataclass(frozen=True)
class SchedulerEntry:
    """A scheduler that takes part: its class, checked, with what the user pinned.

    Attributes:
        name: What it is called in tables: the registered name, a file's class name in kebab-case, `torch:Class`, or
            `policy:` (`untrained:`, ...) and the name on the card, which another policy than the shipped one of that
            name does not get alone: `policy:ganno@1a2b3c4d`, with the policy's hash; followed by the pinned
            hyperparameters, `cosine(final_factor=0.1)`.
        ref: The reference that was loaded.
        cls: The class.
        pinned: Hyperparameters that the user fixed.
        search_space: Optuna distributions of the hyperparameters that are tuned; pinned ones, base learning rate and
            weight decay are not among them.
        code: What stands for its code, in words; results with another one are another scheduler's. See `code_of`.
        zero_shot: Whether nothing of it is tuned, base learning rate and weight decay included.
        plugins: Whose code it is, or that of a policy's observations, where a package brings it.
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
        """A hash of `code` for the names of folders and studies, 16 hexadecimal digits."""
        return hashlib.sha256(self.code.encode()).hexdigest()[:16]

    def base_lr(self, optimizer: str) -> float:
        """Return the default base learning rate on workloads with an optimizer."""
        if issubclass(self.cls, OptimizerEntry):
            return self.cls.released(optimizer).base_lr
        return OPTIMIZERS[optimizer].base_lr

    def open_optimizer(self, optimizer: str) -> str | None:
        """Return `package.Class` of what replaces a workload's optimizer, or None if nothing does."""
        if issubclass(self.cls, OptimizerEntry):
            return ".".join([*filter(None, [self.cls.package]), self.cls.released(optimizer).name])
        return None

    @property
    def replaces(self) -> Mapping[str, Released]:
        """Name of a workload's optimizer -> what takes its place; empty for those that keep it."""
        return self.cls.replaces if issubclass(self.cls, OptimizerEntry) else {}

    @property
    def packages(self) -> tuple[str, ...]:
        """What it needs that is released by others."""
        released = self.cls.package if issubclass(self.cls, OptimizerEntry | LibrarySchedule) else None
        brought = (origin.package for origin in self.plugins.values())
        return tuple(dict.fromkeys(filter(None, (released, *brought))))

    def build(self, config: Mapping[str, Any]) -> Scheduler:
        """Make the scheduler.

        Args:
            config: Values of some hyperparameters; the others are pinned or keep their default.

        Raises:
            UnknownNameError: A key is no hyperparameter.
            ConfigError: A value is of the wrong type, or contradicts a pinned one.
            PluginError: The class refuses the values.
        """
        config = _check_values(self.name, self.cls, config)
        for key in config.keys() & self.pinned.keys():
            if config[key] != self.pinned[key]:
                raise ConfigError(f"scheduler {self.name!r}: {key!r} is pinned, it cannot be {config[key]!r}")
        try:
            with undisturbed(f"scheduler {self.name!r}: making it", may_draw=True):
                return self.cls(**{**self.pinned, **config})
        except UserError:
            raise
        except Exception as error:
            raise PluginError(
                f"scheduler {self.name!r} cannot be made: {type(error).__name__}: {_one_line(error)}"
            ) from error

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
    """Take a reference apart, without looking anything up.

    Args:
        ref: `NAME` or `NAME(key=value, ...)`.
        kind: Of what it is a reference, for messages.

    Raises:
        ConfigError: It is not of the form `NAME(key=value, ...)` with literal values.
    """
    if ref.strip().startswith(_OF_POLICIES):  # nothing of a policy can be pinned, and its path may have parentheses
        return Reference(ref.strip(), {})
    # A path may have parentheses of its own.
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
        raise ConfigError(f"{kind} reference {ref!r} is not of the form NAME or NAME(key=value, ...)") from None
    pinned: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg in pinned:
            raise ConfigError(f"{kind} reference {ref!r} gives {keyword.arg!r} twice")
        try:
            pinned[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            raise ConfigError(
                f"{kind} reference {ref!r}: the value of {keyword.arg!r} is not a number, a string in quotes, "
                f"True or False: {ast.unparse(keyword.value)}"
            ) from None
    return Reference(match[1], pinned)


def load_scheduler(ref: str) -> SchedulerEntry:
    """Return the entry that a reference names, after checking that its class is what a scheduler must be.

    Args:
        ref: `NAME`, `./file.py:Name`, `torch:Class`, `transformers:NAME`, `timm:Class` or `pytorch-optimizer:Class`,
            optionally with `(key=value, ...)`, and with `default:` before it for a zero-shot entry; or `policy:POLICY`,
            a folder or the name of a shipped policy; or one of the controls that a policy must beat: `untrained:POLICY`
            (fresh weights), `random:POLICY` (uniformly random actions), `mean-curve:POLICY`, `profile:POLICY` and
            `curve-profile:POLICY` (its mean learning rates over time, over the layers, and their product, replayed),
            `without:FEATURE:POLICY` (an observation masked).

    Raises:
        UnknownNameError: No such scheduler, name in a library, hyperparameter or observation; the message has the
            nearest name.
        ConfigError: The reference is malformed, or a pinned value is of the wrong type.
        PluginError: The class cannot be imported, it breaks a rule that the message names, or its code changed what
            belongs to the whole process.
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
        name = f"{_POLICY}{cls.__name__}{apart_from_shipped(cls.policy)}"  # apart from whatever is registered
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
            raise ConfigError(f"scheduler {name!r}: {key!r} must be one of {choices.choices}, not {pinned[key]!r}")
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

    A broken one has an error and disturbs no other.
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
        problem = f"has a field {reserved[0]!r}, which belongs to the harness; it comes in RunInfo"
    elif not isinstance(needs, Set):
        problem = f"has needs = {needs!r}; it must be a frozenset of names of signals"
    elif given := sorted(needs & _ALWAYS_GIVEN):
        problem = f"needs {given[0]!r}, which is always there; leave it out of `needs`"
    elif unknown := sorted(needs - set(NEEDS)):
        problem = f"needs the unknown signal {unknown[0]!r}{did_you_mean(unknown[0], NEEDS)}"
    elif cls.interval is not None and not (type(cls.interval) is int and cls.interval >= 1):
        problem = f"has interval = {cls.interval!r}; it must be a number of updates, at least 1, or None"
    if problem is not None:
        raise PluginError(f"scheduler {name!r} {problem}")


def _check_search_space(name: str, cls: type[Scheduler]) -> dict[str, BaseDistribution]:
    try:
        space: dict[str, Any] = dict(cls.search_space())
        defaults, types = default_values(cls), declared_types(cls)
    except Exception as error:
        raise PluginError(
            f"scheduler {name!r}: search_space() raised {type(error).__name__}: {_one_line(error)}"
        ) from error
    for key, distribution in space.items():
        if key not in defaults:
            raise PluginError(f"scheduler {name!r}: search_space() has {key!r}, no field{did_you_mean(key, defaults)}")
        if not isinstance(distribution, BaseDistribution):
            raise PluginError(f"scheduler {name!r}: search_space() has no Optuna distribution for {key!r}")
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
                f"scheduler {name!r}: the default of {key!r}, {defaults[key]!r}, is outside of its {distribution}"
            )
        for value in proposed:
            try:
                fit(value, types[key])
            except UnfitError as error:
                raise PluginError(
                    f"scheduler {name!r}: {key!r} must be {error}, and search_space() proposes {value!r} for it"
                ) from None
    return space


def _proposed(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return values of each kind that a distribution proposes."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return tuple(distribution.to_external_repr(getattr(distribution, end)) for end in ("low", "high"))


def _check_values(name: str, cls: type[Scheduler], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` as their fields' types have them: whole numbers made floats where a float is declared."""
    types, defaults, checked = declared_types(cls), default_values(cls), {}
    for key, value in values.items():
        if key not in types:
            raise UnknownNameError(f"scheduler {name!r} has no hyperparameter {key!r}{did_you_mean(key, types)}")
        try:
            checked[key] = fit(value, types[key])
        except UnfitError as error:
            like = "" if defaults[key] is None else f" like {defaults[key]!r}"
            raise ConfigError(f"scheduler {name!r}: {key!r} must be {error}{like}, not {value!r}") from None
    return checked


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _plugins(name: str, cls: type[Scheduler]) -> dict[str, Origin]:
    """Return whose code a scheduler is, or a policy's observations are, where a package brings them.

    The code of a file of the user's own is in the code hash as that of what is built in is.
    """
    named = [(SCHEDULERS, name)] if name in SCHEDULERS.entries() else []
    if issubclass(cls, PolicyScheduler):
        named += [(OBSERVATIONS, observation) for observation in cls.policy.card.observation]
    return origins(named)


def code_of(cls: type[Scheduler], plugins: Mapping[str, Origin]) -> str:
    """Return what stands for the code of a scheduler, parts with commas between them.

    - `revision 1`: of a class of this project, or of the one that a plugin derives from;
    - `policy 6a1c...`: of card and weights of a policy, or of what a control makes of them;
    - `transformers 5.24.0`: the release of a library whose schedule or optimizer it is;
    - `source 07d9...`: of the file that defines a plugin and of what that imports from beside it; of a package's class
      of the modules that define it and its bases;
    - `scheduler NAME: PACKAGE VERSION, code ...`: what a package brings, observations of a policy included.
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

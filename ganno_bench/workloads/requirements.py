"""Check the packages that a suite requires because they provide its models and datasets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement

from ganno_bench.core.errors import ConfigError, PluginError

__all__ = ["check_installed", "check_requirements"]


def check_requirements(requirements: Sequence[str], key: str) -> None:
    """Check the form of requirements, such as `tiny-nets >= 1.2`.

    Args:
        requirements: The requirements.
        key: File and key, for messages.

    Raises:
        ConfigError: A requirement is malformed, or has a URL, extras or a marker, which are not supported.
    """
    for index, text in enumerate(requirements):
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"{key}[{index}]: must be a requirement like 'package >= 1.2': {reason} (value: {text!r})"
            ) from None
        if requirement.url or requirement.marker or requirement.extras:
            raise ConfigError(f"{key}[{index}]: must be only a package and its versions (value: {text!r})")


def check_installed(requirements: Sequence[str], key: str) -> None:
    """Check that well-formed requirements are met; see `check_requirements`.

    Raises:
        PluginError: A package is missing, or its installed version does not match.
    """
    for index, text in enumerate(requirements):
        requirement = Requirement(text)
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            raise PluginError(
                f"{key}[{index}]: {text!r} is not installed; run pip install {str(requirement)!r}"
            ) from None
        if not requirement.specifier.contains(found, prereleases=True):
            raise PluginError(f"{key}[{index}]: {text!r} is not met by the installed version {found}")

"""What a suite requires to be installed: packages of others, which bring its models and datasets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement

from ganno_bench.core.errors import ConfigError, PluginError

__all__ = ["check_installed", "check_requirements"]


def check_requirements(requirements: Sequence[str], key: str) -> None:
    """Check the form of requirements, such as `tiny-nets >= 1.2`.

    Args:
        requirements: What is required.
        key: File and key, for messages.

    Raises:
        ConfigError: One is malformed, or has a URL or a marker, which nothing here would make sense of.
    """
    for index, text in enumerate(requirements):
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"{key}[{index}]: is no requirement like 'package >= 1.2': {reason} (value: {text!r})"
            ) from None
        if requirement.url or requirement.marker or requirement.extras:
            raise ConfigError(f"{key}[{index}]: is more than a package and its versions (value: {text!r})")


def check_installed(requirements: Sequence[str], key: str) -> None:
    """Check that requirements, which are well-formed, are met; see `check_requirements`.

    Raises:
        PluginError: A package is missing, or there in another version.
    """
    for index, text in enumerate(requirements):
        requirement = Requirement(text)
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            raise PluginError(f"{key}[{index}]: {text!r} is not installed; pip install {str(requirement)!r}") from None
        if not requirement.specifier.contains(found, prereleases=True):
            raise PluginError(f"{key}[{index}]: {text!r} is not met by {found}, which is installed")

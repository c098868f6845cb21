"""The user's cache folder, for what can be made again: encoded datasets, compiled updates."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from ganno_bench.core.errors import ConfigError

__all__ = ["user_cache"]

_VARIABLE = "GANNO_BENCH_CACHE"


def user_cache(name: str, mode: int = 0o777) -> Path | None:
    """Return a folder in the user's cache folder, created if necessary; None if there is no cache.

    The environment variable GANNO_BENCH_CACHE names the folder around it. The values `off` and the empty string turn
    the cache off. Without the variable, the user's cache folder is used, if it is writable.

    Args:
        name: Name of the folder.
        mode: Permissions of a new folder, before the process's mask is applied.

    Raises:
        ConfigError: GANNO_BENCH_CACHE names a folder that cannot be created.
    """
    given = os.environ.get(_VARIABLE)
    if given in ("", "off"):
        return None
    base = platformdirs.user_cache_path("ganno-bench") if given is None else Path(os.path.expanduser(given))
    folder = base / name
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        if given is None:
            return None
        raise ConfigError(
            f"{_VARIABLE}: folder {given!r} cannot be created: {error.strerror}; name another one, or 'off'"
        ) from error
    return folder

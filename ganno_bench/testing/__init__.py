"""Contract tests that ship with the package: a plugin is held to the same ones as a built-in."""

"""Contract tests, which ship with the package. Plugins and built-in code must pass the same tests."""

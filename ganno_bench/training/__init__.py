"""The population engine: the only training loop of the project."""

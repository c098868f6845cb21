"""Plugins: their kinds, the installed ones, and a template project for a new one."""

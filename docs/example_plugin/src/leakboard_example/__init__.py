"""Plugins for Leakboard, found by the entry points in pyproject.toml."""

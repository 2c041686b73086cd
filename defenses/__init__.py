"""Defenses: one file, one class each."""

"""Attacks: one file, one class each."""

"""Nightly runs on a board: its health, the cells of a night, and what changed since the nights before."""

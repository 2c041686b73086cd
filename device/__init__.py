"""Boards: ways to start the agent. One framed protocol reaches all of them."""

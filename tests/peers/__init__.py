"""Our output attacks beside those of other tools: what ``tests/compare_peers.py`` is made of."""

"""MirrorNet's parts: where a backbone can be read, the branches that read it, their choice and their training."""

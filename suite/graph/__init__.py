"""From a PyTorch model to the bytes that a board runs: operator graph, memory plan, binary format."""

"""TEESlice's parts: the public backbone's training, the private slices on it, their training and pruning."""

"""The models under attack: architectures, how they are trained, and the data sets."""

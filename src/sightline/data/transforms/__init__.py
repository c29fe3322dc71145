"""Augmentation: first decide at random, then apply something that is not random."""

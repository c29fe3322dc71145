"""Heads: the last layer of a network, which turns feature maps into predictions."""

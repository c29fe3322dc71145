"""Layers, one family a file. Child names (`cv1`, `m`, …) are the keys of published weights and never change."""

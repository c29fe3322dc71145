"""Layers → networks: descriptions in YAML, the networks built from them, and moving weights between networks."""

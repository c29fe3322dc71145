"""The commands around a run: what is wrong with it, its data or its settings."""

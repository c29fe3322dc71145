"""Finding settings by many runs of train: what is searched, what is in force, who chooses, and what is left behind."""

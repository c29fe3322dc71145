"""Finding settings: many short runs of train, and what they say."""

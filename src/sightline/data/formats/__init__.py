"""One file per label format: what its files look like, and how they become our arrays."""

"""Finding settings: tests of a few steps (lr_find, batch_find), and the search by many runs of train (search)."""

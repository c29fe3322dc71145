"""A network and a data set in, metrics out."""

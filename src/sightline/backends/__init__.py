"""One call for a network, whatever runs it."""

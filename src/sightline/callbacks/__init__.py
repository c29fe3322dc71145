"""Things that attach to the named moments of a run."""

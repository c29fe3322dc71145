"""The pictures of a run, one kind a file; `sightline.artifacts.plots` names them all."""

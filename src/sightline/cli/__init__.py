"""The `sightline` command: `sightline train model=… data=…`."""

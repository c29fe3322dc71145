"""What scripts read as the version of the library."""

from sightline import __version__

# They compare it to learn which names there are, and print it to learn what they run on: one string does both.
INTERFACE = "8.4.190"
VERSION = f"{INTERFACE}+sightline.{__version__}"

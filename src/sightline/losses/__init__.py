"""What a network is told it did wrong: assignment of targets, terms, and one file per task."""

"""What was asked for: typed settings with the origin of every value."""

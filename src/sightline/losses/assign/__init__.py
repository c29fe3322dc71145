"""Which anchor learns which target."""

"""Parts of a loss: pure functions, and small classes that hold their settings."""

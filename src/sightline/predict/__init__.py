"""Pictures, videos and streams in, results out."""

"""What a run leaves behind: folders, weights, tables, pictures."""

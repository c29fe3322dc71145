"""Pure tensor maths: box formats, overlaps, anchors, suppression. No state, no settings."""

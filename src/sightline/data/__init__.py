"""From files to batches: data set description, label index, images, samples, loader."""

"""The nouns that travel: samples on the way in, results on the way out."""

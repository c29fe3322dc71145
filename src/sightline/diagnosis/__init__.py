"""The rules that say what is wrong with a run: plain numbers in, findings out. No trainer, no files."""

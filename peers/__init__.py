"""Trials of copycost and other tools on the same functions, with the same hidden changes and the same time."""

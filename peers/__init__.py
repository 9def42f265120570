"""Trials of copycost and other tools: the same functions, the same hidden changes, the same time."""

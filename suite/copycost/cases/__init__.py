"""The cases to measure: which there are, and which fit this machine."""

"""Inspect this machine: its processors, memory, settings and state."""

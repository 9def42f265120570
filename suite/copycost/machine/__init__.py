"""This machine: its processors, memory, settings and state."""

"""Readers of the profilers of devices."""

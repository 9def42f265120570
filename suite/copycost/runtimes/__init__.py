"""Runtimes: one adapter for each array library that variants use."""

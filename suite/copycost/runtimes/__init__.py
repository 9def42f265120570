"""Runtimes: one adapter for each library whose arrays a variant is given."""

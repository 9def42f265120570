"""Passes over a prepared call: each is a function of it that a worker runs when it is asked."""

"""Conclusions drawn from measurements: overview, comparison, history and break-even."""

"""Measurement of two commits of a repository side by side."""

"""Compute estimates and intervals from samples."""

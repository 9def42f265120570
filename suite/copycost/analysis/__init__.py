"""Conclusions from measurements."""

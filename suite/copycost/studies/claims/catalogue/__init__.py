"""The claims: a module for each document."""

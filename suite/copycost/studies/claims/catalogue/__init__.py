"""Catalogue of the claims, with a module for each document."""

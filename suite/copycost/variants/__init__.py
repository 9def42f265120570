"""Variants: implementations of the recipes, in one file per runtime."""

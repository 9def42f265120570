"""Variants: implementations of the recipes, in one file per runtime.

The module `documents` contains the variants of the documents' computations.
"""

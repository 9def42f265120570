"""Explain what each line of a function or of a script costs in memory, and rewrite what is proven to cost less."""

"""Statistics: numbers in, intervals out."""

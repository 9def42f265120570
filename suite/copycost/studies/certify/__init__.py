"""Checks of the clocks, fences and allocation counts of a machine, on which every figure of copycost depends."""

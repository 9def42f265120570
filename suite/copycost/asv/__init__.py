"""asv: benchmark classes, the machine's record, result files, and one command for people who don't know it."""

from copycost.asv.benchmarks import Cases

__all__ = ["Cases"]

"""Print what asv finds of the plugin in this environment: ``python -m asv_bench_copycost``."""

from __future__ import annotations

import sys

from asv_bench_copycost.check import findings


def main() -> int:
    """Print a line for each finding, and return 1 if the plugin or its instrument does not work."""
    found = findings()
    for works, text in found:
        print(f"{'ok' if works else 'FAULT':5}  {text}")
    return int(not all(works for works, _ in found))


if __name__ == "__main__":
    sys.exit(main())

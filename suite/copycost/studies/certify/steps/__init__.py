"""The steps, with those first whose statements the others depend on.

Each module registers its steps when it is imported.
"""

from copycost.studies.certify.steps import machine, clocks, memory, transfers, faults, results  # noqa: F401, I001

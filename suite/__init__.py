"""copycost: what a way of preprocessing images costs, and whether its result is the one you think."""

from suite.cases import select
from suite.expression import formula
from suite.measurement import Measurement
from suite.python import measure, run
from suite.registry import recipe, variant

__version__ = "0.1.0"
__all__ = ["Measurement", "__version__", "formula", "measure", "recipe", "run", "select", "variant"]

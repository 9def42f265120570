"""copycost: what a way of preprocessing images costs, and whether its result is the one you think."""

from suite.registry import recipe, variant

__version__ = "0.1.0"
__all__ = ["__version__", "recipe", "variant"]

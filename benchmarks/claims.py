"""What is said of preprocessing, and what is so with these versions."""

from copycost.asv import claims


class Claims(claims.Claims):
    """A verdict for each claim."""

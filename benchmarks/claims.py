"""Track claims about preprocessing and their verdicts with the installed versions."""

from copycost.asv import claims


class Claims(claims.Claims):
    """Verdicts of the claims."""

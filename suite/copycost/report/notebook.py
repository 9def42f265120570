"""The overview, as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from copycost.analysis import overview as analysis
from copycost.model.measurement import Measurement
from copycost.report.html import fragment
from copycost.report.markdown import markdown


class Overview(analysis.Overview):
    """An overview that a notebook shows as a part of a page."""

    def _repr_html_(self) -> str:
        return fragment(self)

    def _repr_markdown_(self) -> str:
        return markdown(self)


def overview(measured: Iterable[Measurement] | pd.DataFrame) -> Overview:
    """Return which variants to take, by how much they are faster, and what to beware of.

    Parameters
    ----------
    measured : iterable of Measurement, or DataFrame
        The table of `copycost.load` or `copycost.run`.

    Returns
    -------
    Overview
        Shown as a part of a page in a notebook, and as text by `print`.

    Raises
    ------
    ValueError
        If two measurements are of one case, and nothing tells which run each is of.
    """
    found = analysis.overview(measured)
    return Overview(**{field.name: getattr(found, field.name) for field in fields(found)})

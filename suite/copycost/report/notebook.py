"""The overview with a rich representation for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from copycost.analysis import overview as analysis
from copycost.model.measurement import Measurement
from copycost.report.html import fragment
from copycost.report.markdown import markdown


class Overview(analysis.Overview):
    """An overview that a notebook renders as HTML."""

    def _repr_html_(self) -> str:
        return fragment(self)

    def _repr_markdown_(self) -> str:
        return markdown(self)


def overview(measured: Iterable[Measurement] | pd.DataFrame) -> Overview:
    """Return the recommended variants, their speedups, and warnings.

    Parameters
    ----------
    measured : iterable of Measurement, or DataFrame
        The table returned by `copycost.load` or `copycost.run`.

    Returns
    -------
    Overview
        Rendered as HTML in a notebook, and as text by `print`.

    Raises
    ------
    ValueError
        If two measurements belong to the same case, and nothing distinguishes their runs.
    """
    summary = analysis.overview(measured)
    return Overview(**{field.name: getattr(summary, field.name) for field in fields(summary)})

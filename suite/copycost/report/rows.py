"""The table of cases as compact JSON for the page, so that a hundred thousand rows stay small."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from copycost.model.measurement import FIGURES, Measurement
from copycost.results.store import KEY
from copycost.results.table import objects

#: Column of the page → its kind of format, and its heading. The search box searches columns of words. For the others,
#: the unit is in the heading or beside the number.
COLUMNS = {
    "source": ("word", "run"),
    "recipe": ("word", "recipe"),
    "variant": ("word", "variant"),
    "device": ("word", "device"),
    "dtype": ("word", "dtype"),
    "batch": ("batch", "batch"),
    "size": ("word", "size"),
    "status": ("word", "status"),
    "seconds": ("seconds", "time per call"),
    "seconds_low": ("seconds", "95 % from"),
    "seconds_high": ("seconds", "to"),
    "images_per_second": ("rate", "images/s"),
    "copy_fraction": ("percent", "of copy speed"),
    "seconds_first": ("seconds", "first call"),
    "allocations": ("count", "allocations"),
    "allocated_bytes": ("size", "allocated"),
    "peak_bytes": ("size", "peak"),
    "retained_bytes": ("size", "retained"),
    "max_abs_error": ("error", "largest error"),
    "remarks": ("word", "remarks"),
    "missing": ("word", "reason if missing"),
    "blocks": ("count", "blocks"),
    "instruments": ("word", "instruments"),
    "audited": ("word", "audited"),
    "profile": ("link", "profile"),
}


def rows(frame: pd.DataFrame, measured: Sequence[Measurement], traces: Mapping[tuple[Any, ...], str]) -> Markup:
    """Return the table as JSON that is safe within a script element.

    Parameters
    ----------
    frame : DataFrame
    measured : sequence of Measurement
        The measurements of the rows.
    traces : mapping
        Key of a case → address of its trace.

    Returns
    -------
    Markup
        An object. ``columns`` is a list of name, kind and heading. ``words`` holds all texts. ``cells`` has a list per
        column, in which a text is given by its index in ``words``, a number has four significant digits, and null is a
        missing value.
    """
    shown = _shown(frame, measured)
    keys = zip(*(objects(frame[name]) for name in KEY), strict=True)
    shown["profile"] = [traces.get(key) for key in keys] if traces else None
    kept = [
        name
        for name in COLUMNS
        if name not in ("source", "missing", "profile") or shown[name].nunique() > (name == "source")
    ]
    words: dict[str, int] = {}
    cells = [_cells(shown[name], COLUMNS[name][0], words) for name in kept]
    head = _json({"columns": [[name, *COLUMNS[name]] for name in kept], "words": list(words)})
    text = f'{head[:-1]},"cells":[{",".join(cells)}]}}'
    # HTML parsers look only for the end tag within a script, so escaping "<" is enough.
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _cells(column: pd.Series, kind: str, words: dict[str, int]) -> str:
    """Return the cells of a column as a JSON array, and add its texts to the words."""
    if kind in ("word", "link"):
        codes, texts = pd.factorize(column)
        places = [words.setdefault(text, len(words)) for text in texts] + [None]  # missing values have the code −1
        return _json([places[code] for code in codes.tolist()])
    values = objects(column)
    if pd.api.types.is_integer_dtype(column.dtype):
        return _json(values)
    if not np.isfinite(column.to_numpy(float, na_value=0)).all():
        raise ValueError(f"invalid value in column {column.name}: expected a finite number")
    return f"[{','.join(['null' if value is None else f'{value:.4g}' for value in values])}]"


def _shown(frame: pd.DataFrame, measured: Sequence[Measurement]) -> pd.DataFrame:
    shown = frame.copy(deep=False)
    shown["size"] = frame["height"].astype(str) + "×" + frame["width"].astype(str)
    first = frame["layout"] != "channels_last"
    shown.loc[first, "size"] = shown.loc[first, "size"] + " " + frame.loc[first, "layout"]
    shown["remarks"] = [m.remarks() for m in measured]
    shown["missing"] = [_why_missing(m) for m in measured]
    shown["instruments"] = [", ".join(names) for names in frame["instruments"]]
    return shown


#: Columns with a figure of each measured case.
_FIGURES = tuple(name for name in COLUMNS if name in FIGURES)
_figures = attrgetter(*_FIGURES)


def _why_missing(m: Measurement) -> str | None:
    """Return why figures of a measured case are missing; the status explains it for other cases."""
    if m.status not in ("ok", "unchecked"):
        return None
    figures = _figures(m)
    if None not in figures:
        return None
    reasons: dict[str, list[str]] = {}
    for name, value in zip(_FIGURES, figures, strict=True):
        if value is None:
            reasons.setdefault(m.missing.get(name, "unknown"), []).append(COLUMNS[name][1])
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())


def facets(frame: pd.DataFrame) -> dict[str, Sequence[str]]:
    """Return the columns by which the table can be filtered, with their values."""
    facets: dict[str, Sequence[str]] = {}
    for name in ("recipe", "device", "dtype", "status"):
        values = [str(value) for value in frame[name].dropna().unique()]
        if len(values) > 1:
            facets[name] = values
    return facets

"""The table of cases as compact JSON for the page, so that a hundred thousand rows stay small."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from copycost.model.measurement import FIGURES, Measurement
from copycost.results.store import KEY

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
    keys = frame[list(KEY)].astype(object).where(frame[list(KEY)].notna(), None).itertuples(index=False, name=None)
    shown["profile"] = [traces.get(key) for key in keys] if traces else None
    words: dict[str, int] = {}
    cells: list[list[Any]] = []
    for name, (kind, _) in COLUMNS.items():
        values = [None if pd.isna(one) else one for one in shown[name].tolist()]
        if kind in ("word", "link"):
            cells.append([None if one is None else words.setdefault(str(one), len(words)) for one in values])
        else:
            cells.append([_short(one) for one in values])
    kept = [
        k
        for k, name in enumerate(COLUMNS)
        if name not in ("source", "missing", "profile") or shown[name].nunique() > (name == "source")
    ]
    columns = [[name, *its] for name, its in COLUMNS.items()]
    document = {
        "columns": [columns[k] for k in kept],
        "words": list(words),
        "cells": [cells[k] for k in kept],
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # HTML parsers look only for the end tag within a script, so escaping "<" is enough.
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _shown(frame: pd.DataFrame, measured: Sequence[Measurement]) -> pd.DataFrame:
    shown = frame.copy(deep=False)
    shown["size"] = frame["height"].astype(str) + "×" + frame["width"].astype(str)
    first = frame["layout"] != "channels_last"
    shown.loc[first, "size"] = shown.loc[first, "size"] + " " + frame.loc[first, "layout"]
    shown["remarks"] = [m.remarks() for m in measured]
    shown["missing"] = [_why_missing(m) for m in measured]
    shown["instruments"] = [", ".join(its) for its in frame["instruments"]]
    return shown


#: Columns with a figure of each measured case.
_FIGURES = tuple(name for name in COLUMNS if name in FIGURES)


def _why_missing(m: Measurement) -> str | None:
    """Return why figures of a measured case are missing; the status explains it for other cases."""
    if m.status not in ("ok", "unchecked"):
        return None
    reasons: dict[str, list[str]] = {}
    for name in _FIGURES:
        if getattr(m, name) is None:
            reasons.setdefault(m.missing.get(name, "unknown"), []).append(COLUMNS[name][1])
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()) or None


def _short(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    return float(f"{float(value):.4g}")


def facets(frame: pd.DataFrame) -> dict[str, Sequence[str]]:
    """Return the columns by which the table can be filtered, with their values."""
    found: dict[str, Sequence[str]] = {}
    for name in ("recipe", "device", "dtype", "status"):
        values = [str(one) for one in dict.fromkeys(frame[name].dropna())]
        if len(values) > 1:
            found[name] = values
    return found

"""The rows of the table of cases, as the page has them: short, so that a hundred thousand are no burden."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from copycost.model.measurement import FIGURES, Measurement
from copycost.results.store import KEY

#: Column of the page → how it is shown, and its heading. Words are sought in; of the others the unit is in the heading
#: or beside the number.
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
    "retained_bytes": ("size", "kept"),
    "max_abs_error": ("error", "largest error"),
    "remarks": ("word", "remarks"),
    "missing": ("word", "missing because"),
    "blocks": ("count", "blocks"),
    "instruments": ("word", "instruments"),
    "profile": ("link", "profile"),
}


def rows(frame: pd.DataFrame, measured: Sequence[Measurement], traces: Mapping[tuple[Any, ...], str]) -> Markup:
    """The table as JSON that can stand in a script element.

    Parameters
    ----------
    frame : DataFrame
    measured : sequence of Measurement
        Its rows.
    traces : mapping
        Key of a case → the address of its trace.

    Returns
    -------
    Markup
        An object: ``columns`` is a list of name, kind and heading; ``words`` all texts; ``cells`` a list a column, in
        which a text is its place among the words and a number has four significant digits; null where there is none.
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
    # Within a script nothing but its end is read as HTML, and that a text must not contain.
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


#: Columns that have a figure where a case was measured.
_FIGURES = tuple(name for name in COLUMNS if name in FIGURES)


def _why_missing(m: Measurement) -> str | None:
    """Why a figure is missing of a case that was measured: of the others the status says it."""
    if m.status not in ("ok", "unchecked"):
        return None
    reasons: dict[str, list[str]] = {}
    for name in _FIGURES:
        if getattr(m, name) is None:
            reasons.setdefault(m.missing.get(name, "not told"), []).append(COLUMNS[name][1])
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()) or None


def _short(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    return float(f"{float(value):.4g}")


def facets(frame: pd.DataFrame) -> dict[str, Sequence[str]]:
    """What the table can be narrowed to by a choice: column → its values."""
    found: dict[str, Sequence[str]] = {}
    for name in ("recipe", "device", "dtype", "status"):
        values = [str(one) for one in dict.fromkeys(frame[name].dropna())]
        if len(values) > 1:
            found[name] = values
    return found

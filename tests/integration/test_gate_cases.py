"""The cases that `copycost gate` selects from the files of two commits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from copycost.catalog.import_context import ImportContext
from copycost.gate.commits import Commit
from copycost.gate.measure import Chosen, choose

BENCHMARK = """
from copycost import asv, variant

@variant(recipe="tf", runtime="numpy", writes="new", name="{name}")
def prepare(example):
    return lambda x: x

class Own(asv.Cases{axes}):
    pass
"""

NOTHING: dict[str, list] = {"batches": [], "sizes": [], "dtypes": [], "layouts": []}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Commit, Commit]:
    """Two commits that hold the same two benchmarks, of which one sets axes."""
    commits = []
    for name in ("base", "head"):
        folder = tmp_path / name
        folder.mkdir()
        axes = ', batches=(None, 8), sizes=((64, 48),), dtypes="float64"'
        (folder / "narrow.py").write_text(BENCHMARK.format(name="narrow", axes=axes))
        (folder / "wide.py").write_text(BENCHMARK.format(name="wide", axes=""))
        place = ImportContext(str(folder), (str(folder),), (), sys.executable, None, None)
        commits.append(Commit(name, "", "", False, place))
    return commits[0], commits[1]


def axes_by_variant(chosen: Chosen) -> dict[str, set[tuple]]:
    assert [case.key for case in chosen.base] == [case.key for case in chosen.head]
    found: dict[str, set[tuple]] = {}
    for case in chosen.head:
        found.setdefault(case.variant.name, set()).add((case.batch, case.height, case.width, case.dtype))
    return found


def test_benchmark_class_sets_the_axes_of_its_own_file(sides: tuple[Commit, Commit]) -> None:
    chosen = choose(*sides, {"narrow.py": False, "wide.py": False}, "quick", NOTHING)
    assert axes_by_variant(chosen) == {
        "narrow": {(batch, 64, 48, "float64") for batch in (None, 8)},
        "wide": {(batch, 224, 224, dtype) for batch in (1, 32) for dtype in ("uint8", "float32")},
    }


def test_options_replace_the_axes_of_a_benchmark_class(sides: tuple[Commit, Commit]) -> None:
    chosen = choose(*sides, {"narrow.py": False}, "quick", NOTHING | {"dtypes": ["float32"], "batches": [2]})
    assert axes_by_variant(chosen) == {"narrow": {(2, 64, 48, "float32")}}

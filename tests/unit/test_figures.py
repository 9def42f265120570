"""What the figures say: the data on the axes is that of the frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_overview import FAST, LEAN, OVER, PLAIN, one
from test_results import M

from copycost.report import figures
from copycost.report.pictures import histories, pictures, typical
from copycost.results.table import frame, joined

N = 8 * 224 * 224 * 3 * 4


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_times_relative_to_the_baseline() -> None:
    larger = [replace(m, batch=32, seconds=4 * (m.seconds or 0)) for m in (PLAIN, FAST)]
    axis = figures.relative(frame([PLAIN, FAST, LEAN, *larger]))
    values = axis.collections[0].get_array().reshape(3, 3)
    # Fastest first; batches 8 and 32, and the mean; what was not measured is not drawn.
    ratios = [(FAST.seconds or 0) / (PLAIN.seconds or 1), (LEAN.seconds or 0) / (PLAIN.seconds or 1)]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["tf-xla", "numpy-out", "numpy-new"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["×8", "×32", "mean"]
    assert values[0].tolist() == pytest.approx([math.log2(ratios[0])] * 3)
    assert values[1, [0, 2]].tolist() == pytest.approx([math.log2(ratios[1])] * 2)
    assert np.ma.is_masked(values[1, 1]) or math.isnan(values[1, 1])
    assert values[2].tolist() == pytest.approx([0, 0, 0])
    assert {text.get_text() for text in axis.texts} >= {"1.00", "0.25", "0.50"}


def test_the_mean_is_geometric() -> None:
    others = [replace(PLAIN, batch=1), replace(FAST, batch=1, seconds=16 * (PLAIN.seconds or 0))]
    ratios, _ = figures.relative_times(frame([PLAIN, FAST, *others]), "numpy-new")
    first = (FAST.seconds or 0) / (PLAIN.seconds or 1)
    assert ratios.loc["tf-xla", "mean"] == pytest.approx(math.sqrt(first * 16))


def test_relative_of_two_machines_divides_by_the_baseline_of_each() -> None:
    slow = [replace(m, seconds=100 * (m.seconds or 0)) for m in (PLAIN, LEAN)]
    both = pd.concat(
        [frame([PLAIN, FAST]).assign(machine="quick"), frame(slow).assign(machine="slow")], ignore_index=True
    )
    ratios, _ = figures.relative_times(both, "numpy-new")
    assert list(ratios.columns) == ["quick", "slow", "mean"]
    fast, lean = ((m.seconds or 0) / (PLAIN.seconds or 1) for m in (FAST, LEAN))
    assert ratios.loc["tf-xla"].tolist() == pytest.approx([fast, math.nan, fast], nan_ok=True)
    assert ratios.loc["numpy-out"].tolist() == pytest.approx([math.nan, lean, lean], nan_ok=True)


@pytest.mark.parametrize("draw", [figures.throughput, figures.pareto, figures.pays_after])
def test_figure_that_compares_times_refuses_two_machines(draw: Callable[..., object]) -> None:
    both = pd.concat([frame([PLAIN, FAST]).assign(machine=name) for name in ("quick", "slow")], ignore_index=True)
    with pytest.raises(ValueError, match="2 origins, whose times cannot be compared \\(quick; slow\\)"):
        draw(both)


def test_what_cannot_be_told_is_in_brackets() -> None:
    alike = one("numpy-copy", (3.9e-3, 4.4e-3, 3.8e-3, 4.3e-3))
    axis = figures.relative(frame([PLAIN, alike, FAST]))
    assert [text.get_text() for text in axis.texts if text.get_text().startswith("(")] == ["(1.05)"]


def test_a_baseline_that_was_not_timed_is_named() -> None:
    with pytest.raises(ValueError, match="'x' was not timed in any group"):
        figures.relative(frame([PLAIN]), baseline="x")


def test_throughput_and_its_ceiling() -> None:
    measured = [
        replace(m, batch=batch, seconds=(m.seconds or 0) * batch / 8, images_per_second=8 / (m.seconds or 1),
                seconds_low=(m.seconds_low or 0) * batch / 8, seconds_high=(m.seconds_high or 0) * batch / 8,
                copy_fraction=0.5)
        for m in (PLAIN, FAST) for batch in (8, 32)
    ]  # fmt: skip
    axis = figures.throughput(frame(measured))
    line = next(line for line in axis.lines if line.get_label() == "tf-xla")
    assert line.get_xdata().tolist() == [8, 32]
    assert line.get_ydata().tolist() == pytest.approx([8 / (FAST.seconds or 1)] * 2)
    spans = [segment[:, 1].tolist() for bars in axis.collections for segment in bars.get_segments()]
    assert pytest.approx([8 / (FAST.seconds_high or 1), 8 / (FAST.seconds_low or 1)]) in spans
    ceiling = next(line for line in axis.lines if line.get_label() == "copy speed")
    speeds = [8 / (PLAIN.seconds or 1) / 0.5] * 2 + [8 / (FAST.seconds or 1) / 0.5] * 2
    assert ceiling.get_ydata()[0] == pytest.approx(np.median(speeds))


def test_every_sample_is_drawn() -> None:
    axis = figures.samples(frame([PLAIN, FAST]))
    drawn = np.concatenate([line.get_xdata() for line in axis.lines[:2]])
    drawn = drawn[~np.isnan(drawn.astype(float))]
    samples = [x for m in (PLAIN, FAST) for block in m.samples or () for x in block]
    assert sorted(drawn) == pytest.approx(sorted(samples * 2))
    assert axis.lines[2].get_xdata()[0] == FAST.seconds  # the fastest is the first row


def test_memory_in_multiples_of_the_input_beside_time() -> None:
    kept = replace(PLAIN, allocations=2, allocated_bytes=2 * N, peak_bytes=2 * N, retained_bytes=N)
    left, right = figures.memory(frame([kept, replace(LEAN, peak_bytes=0, retained_bytes=0)]))
    (bars,) = left.containers
    shown = {bars.get_label(): [bar.get_width() for bar in bars]}
    shown |= {line.get_label(): line.get_xdata().tolist() for line in left.lines}
    assert shown == {"allocated": [0, 2], "peak": [0, 2], "retained": [0, 1]}
    assert [label.get_text() for label in left.get_yticklabels()] == ["numpy-out (0)", "numpy-new (2)"]
    assert right.lines[0].get_xdata().tolist() == [LEAN.seconds, PLAIN.seconds]


def test_the_front_is_what_none_beats_in_both() -> None:
    table = frame([PLAIN, FAST, LEAN, replace(OVER, variant="late", seconds=9e-3)])
    assert figures.front(table)["variant"].tolist() == ["numpy-out", "tf-xla"]
    axis = figures.pareto(table)
    front = next(line for line in axis.lines if line.get_label() == "front")
    assert sorted(front.get_ydata()) == [FAST.seconds, LEAN.seconds]
    assert {text.get_text() for text in axis.texts} >= {"numpy-out", "tf-xla"}


def test_live_bytes_through_a_call() -> None:
    events = [(N, "x / scale"), (N, "- one"), (-N, "x / scale")]
    timed = replace(PLAIN, peak_bytes=2 * N, timeline=[{"bytes": n, "space": "host", "op": op} for n, op in events])
    (axis,) = figures.timeline(frame([timed, replace(LEAN, timeline=[])]))
    assert axis.lines[0].get_ydata().tolist() == [0, 1, 2, 1, 1]
    assert [text.get_text() for text in axis.texts] == ["x / scale", "- one"]


def test_when_compiling_has_paid() -> None:
    eager = one("tf-eager", (4e-3, 4e-3, 4e-3), seconds_first=5e-3, runtime="tensorflow")
    graph = one("tf-graph", (2e-3, 2e-3, 2e-3), seconds_first=25e-3, runtime="tensorflow")
    slow = one("tf-xla", (5e-3, 5e-3, 5e-3), seconds_first=25e-3, runtime="tensorflow")
    table = figures.pays_after(frame([eager, graph, slow]))
    # 5 + 4 n against 25 + 2 n: after ten further calls both have taken as long.
    assert table["calls"].tolist()[0] == 11
    assert pytest.approx(5e-3 + 4e-3 * 10) == 25e-3 + 2e-3 * 10
    assert pd.isna(table["calls"].tolist()[1])
    axis = figures.first_call(frame([eager, graph]))
    steady = next(line for line in axis.lines if line.get_label() == "steady")
    assert steady.get_xdata().tolist() == [4e-3, 2e-3]


def test_a_history_is_by_commit() -> None:
    runs = [
        (f"run {k}", {"engine": 1, "machine": "m", "environment": "e", "commit": f"{k}" * 40,
                      "commit_time": f"2026-01-0{k}T00:00:00+00:00"}, [replace(FAST, seconds=k * 1e-3)])
        for k in (2, 1, 3)
    ]  # fmt: skip
    axis = figures.history(joined(runs))
    (line,) = axis.lines
    assert line.get_ydata().tolist() == [1e-3, 2e-3, 3e-3]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1" * 8, "2" * 8, "3" * 8]


def test_environments_stand_side_by_side(tmp_path: Path) -> None:
    runs = [
        (name, {"engine": 1, "machine": "m", "environment": name, "commit": commit * 40,
                "commit_time": f"2026-01-0{commit}T00:00:00+00:00"},
         [replace(FAST, seconds=seconds), replace(PLAIN, seconds=2 * seconds)])
        for name, commit, seconds in (("old", "1", 9e-3), ("old", "2", 3e-3), ("new", "1", 1e-3))
    ]  # fmt: skip
    axis = figures.versions(joined(runs))
    assert [label.get_text() for label in axis.get_yticklabels()] == ["tf-xla", "numpy-new"]
    shown = {line.get_label(): line.get_xdata().tolist() for line in axis.lines}
    assert shown == {"new": [1e-3, 2e-3], "old": [3e-3, 6e-3]}
    drawn = [job() for job in histories(joined(runs), tmp_path)]
    assert [one.title for one in drawn] == ["by commit", "by environment"]


def test_the_typical_group() -> None:
    rows = [replace(M, batch=batch, dtype=dtype) for batch in (None, 1, 32, 128) for dtype in ("uint8", "float32")]
    found = typical(frame(rows))
    assert (found["batch"].tolist(), found["dtype"].tolist()) == ([32], ["float32"])
    assert len(typical(frame([replace(M, batch=None)]))) == 1


def test_pictures_are_files_too(tmp_path: Path) -> None:
    drawn = [job() for job in pictures(frame([PLAIN, FAST, LEAN]), tmp_path, "0-", "numpy-new", every=True)]
    assert {one.section for one in drawn} == {"Speed", "Memory"}
    for picture in drawn:
        assert "<svg" in picture.svg
        assert "<?xml" not in picture.svg
        assert list(picture.files) == ["SVG", "PNG"]
        for address in picture.files.values():
            assert (tmp_path / address).stat().st_size > 1000
    assert not histories(joined([("run", {"engine": 1}, [PLAIN])]), tmp_path)


def test_only_the_first_recipe_is_drawn_unless_every_picture_is_wanted(tmp_path: Path) -> None:
    table = frame([replace(m, recipe=recipe) for recipe in ("tf", "caffe") for m in (PLAIN, FAST)])
    first = [job() for job in pictures(table, tmp_path, "0-", "numpy-new")]
    every = [job() for job in pictures(table, tmp_path / "every", "0-", "numpy-new", every=True)]
    assert [(p.recipe, p.title) for p in first] == [(p.recipe, p.title) for p in every if p.recipe == "tf"]
    assert {p.recipe for p in every} == {"tf", "caffe"}
    assert all(list(p.files) == ["SVG"] for p in first)
    assert not list(tmp_path.glob("figures/*.png"))
    # A PNG has no influence on the vectors of the same figure.
    for alone, together in zip(first, every, strict=False):
        assert alone.svg == together.svg


def test_hostile_recipes_name_no_other_file(tmp_path: Path) -> None:
    hostile = [replace(m, recipe="../../x<script>" + "y" * 300) for m in (PLAIN, FAST)]
    for job in pictures(frame(hostile), tmp_path, "0-", "numpy-new"):
        picture = job()
        assert "<script" not in picture.svg
        for address in picture.files.values():
            assert (tmp_path / address).resolve().parent == (tmp_path / "figures").resolve()


def test_a_name_is_no_formula_and_no_longer_than_a_line() -> None:
    assert figures.label("a\u202e\n$x^2$") == r"a \$x^2\$"
    assert figures.label("y" * 10_000) == "y" * 35 + "…"

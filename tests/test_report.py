"""The page and its figure: they say what the measurements say, whatever these are called."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from test_results import M

from suite.report import write_html
from suite.report.figure import draw, time_per_image
from suite.results import frame


def test_the_page_needs_no_other_file_and_names_no_other_host(tmp_path: Path) -> None:
    page = write_html(
        tmp_path, [("run", {"cpu": "a CPU", "libraries": {"numpy": "2.4"}, "load": 0.1, "gpus": []}, [M])]
    )
    text = page.read_text()
    assert "numpy-out" in text
    assert "1.23 ms" in text
    assert "<svg" in text
    for pattern in ("src=", "@import", r"url\((?!#)", "<script"):
        assert not re.search(pattern, text)
    assert 'href="http' not in text


def test_hostile_names_change_nothing_but_their_own_text(tmp_path: Path) -> None:
    name = "<script>alert('1')</script>\"&"
    hostile = replace(M, variant=name, status="failed", reason="</table><b>" + "x" * 10_000, seconds=None)
    text = write_html(tmp_path, [(name, {"image": name}, [hostile, replace(M, variant=name)])] * 2).read_text()
    assert "<script" not in text
    assert "</table><b>" not in text
    assert "&lt;script&gt;" in text


def test_the_figure_shows_the_times_of_the_frame() -> None:
    measured = [M, replace(M, variant="tf-xla", seconds=0.004, seconds_low=0.003, seconds_high=0.006)]
    figure, axis = plt.subplots()
    series = [("cpu", "channels_last", 224, 224, 8, "float32")]
    time_per_image(axis, frame(measured), ["numpy-out", "tf-xla"], series)
    (container,) = axis.containers
    line, _, (bars,) = container.lines
    assert line.get_xdata().tolist() == pytest.approx([0.00123 / 8 * 1e6, 0.004 / 8 * 1e6])
    spans = [segment[:, 0].tolist() for segment in bars.get_segments()]
    assert spans[1] == pytest.approx([0.003 / 8 * 1e6, 0.006 / 8 * 1e6])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["numpy-out", "tf-xla"]
    plt.close(figure)


def test_a_run_in_which_nothing_was_timed_is_reported(tmp_path: Path) -> None:
    skipped = replace(M, status="skipped", reason="no device", seconds=None)
    assert "Nothing was timed" in write_html(tmp_path, [("run", {}, [skipped])]).read_text()
    assert "nothing was timed" in draw(frame([skipped]))


def test_two_runs_have_a_part_each(tmp_path: Path) -> None:
    other = replace(M, seconds=0.5, seconds_low=0.4, seconds_high=0.6)
    text = write_html(tmp_path, [("before", {}, [M]), ("after", {}, [other])]).read_text()
    assert text.index("before") < text.index("1.23 ms") < text.index("after") < text.index("500 ms")
    assert text.count("<svg") == 2

"""Lines of a run, read in batches and by several processes."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from test_results import FULL, M

from copycost.results import lines, load, store

ROWS = [replace(m, batch=batch) for batch in range(1, 120) for m in (M, FULL)]


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(texts))
    return path


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_read_any_number_of_processes_returns_the_same(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_PART", 5000)
    texts = [lines.line(m) for m in ROWS]
    invalid = {7: "not JSON\n", 100: texts[100].replace('"seconds": 0', '"seconds": -0'), 101: "[]\n"}
    for place, text in invalid.items():
        assert text != texts[place]
        texts[place] = text
    path = written(tmp_path / "lines", [*texts, texts[0][:40]])
    measurements, reasons = lines.read(path, workers)
    assert measurements == [m for k, m in enumerate(ROWS) if k not in invalid]
    assert [number for number, _ in reasons] == [8, 101, 102]
    assert [reason for _, reason in reasons][1:] == ["seconds is -0.00123", "expected an object with the field missing"]


def test_bounds_are_ends_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "lines", [f"{'x' * k}\n" for k in range(100)])
    text = path.read_bytes()
    for size in (1, 50, 51, 1000, len(text) - 1, len(text), len(text) + 1):
        monkeypatch.setattr(lines, "_PART", size)
        bounds = lines._bounds(path)
        assert (bounds[0], bounds[-1]) == (0, len(text))
        assert bounds == sorted(set(bounds))
        assert all(text[end - 1 : end] == b"\n" for end in bounds[1:])


def test_a_pipe_is_read_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    signal.alarm(20)  # reading it in parts would wait for a writer, for ever
    try:
        assert lines.read(tmp_path / "pipe", 2) == ([], [])
    finally:
        signal.alarm(0)


def test_a_case_measured_again_has_its_newest_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_PART", 5000)
    again = replace(M, batch=1, seconds=0.00125)
    with store.Run(tmp_path / "run", resume=False) as run:
        run.begin({"engine": 1}, {}, len(ROWS))
        written(tmp_path / "run" / store.MEASUREMENTS, [*map(lines.line, ROWS[::2]), lines.line(again)])
    _, measurements = load.load(tmp_path / "run", workers=2)
    assert len(measurements) == len(ROWS[::2])
    assert measurements[0] == again


def test_measurements_share_equal_texts_and_reasons_and_nothing_else(tmp_path: Path) -> None:
    other = replace(M, missing={"seconds_first": "the case is on the CPU"})
    path = written(tmp_path / "lines", [lines.line(m) for m in (M, replace(M, batch=9), other)])
    (first, second, third), _ = lines.read(path)
    assert first.missing is second.missing
    assert first.variant is third.variant
    assert third.missing == other.missing
    assert first.samples is not second.samples
    assert first.ranges is not second.ranges


def test_missing_of_the_older_format_is_read() -> None:
    row = json.loads(lines.line(M))
    assert row["missing"] == {"the case is on the CPU": ["device_allocations"]}
    older = json.dumps(row | {"missing": {"device_allocations": "the case is on the CPU"}})
    assert lines.parsed(older) == M

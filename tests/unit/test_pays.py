"""From which batch a GPU pays: on figures made for it."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from copycost.analysis.break_even import pays
from copycost.model.measurement import Measurement
from copycost.report.html import write_html
from copycost.results import table


def one(variant: str, device: str, batch: int, seconds: float, error: float = 0.05, **more: object) -> Measurement:
    # Of three such blocks, whose mean is the middle one, `error` is half the 95 % interval.
    apart = math.exp(error * math.sqrt(3) / 4.303)
    values: dict[str, object] = {
        "seconds": seconds, "seconds_low": seconds * (1 - error), "seconds_high": seconds * (1 + error),
        "samples": [[seconds], [seconds * apart], [seconds / apart]], "includes_transfers": device == "gpu",
    }  # fmt: skip
    fixed = ("tf", variant, "numpy", "out", device, "float32", "channels_last", batch, 224, 224, 3, 2, "ok")
    return Measurement(*fixed, **values | more)  # type: ignore[arg-type]


def costs(cpu: float, fixed: float, gpu: float, error: float = 0.05) -> list[Measurement]:
    """A CPU that takes so long an image, and a GPU that takes that much and a fixed time a call; and slower ways."""
    found = []
    for batch in (1, 8, 32, 128):
        found += [
            one("fast", "cpu", batch, cpu * batch, error),
            one("slow", "cpu", batch, 3 * cpu * batch, error),
            one("pinned", "gpu", batch, fixed + gpu * batch, error),
            one("pageable", "gpu", batch, fixed + 2 * gpu * batch, error),
            # Faster than all, and no answer: what it is given is on the device already.
            one("fused", "gpu", batch, gpu * batch / 100, error, includes_transfers=False),
        ]
    return found


@pytest.mark.parametrize(
    ("cpu", "fixed", "gpu", "error", "batch"),
    [
        (1e-4, 5e-4, 2e-5, 0.05, 8),  # 8: 0.80 ms and 0.66 ms
        (1e-4, 5e-4, 2e-5, 0.15, 32),  # the same, and at 8 the intervals overlap
        (1e-4, 0.0, 2e-5, 0.05, 1),
        (1e-5, 5e-4, 2e-5, 0.05, None),
    ],
)
def test_the_batch(cpu: float, fixed: float, gpu: float, error: float, batch: int | None) -> None:
    found = pays(table.frame(costs(cpu, fixed, gpu, error)))
    assert len(found) == 1
    row = found.iloc[0]
    assert (None if pd.isna(row["batch"]) else row["batch"]) == batch
    assert (row["cpu"], row["gpu"], row["largest"]) == ("fast", "pinned", 128)
    assert row["gpu_seconds"] == pytest.approx(fixed + gpu * (batch or 128))


def test_a_gpu_that_wins_once_and_then_loses_does_not_pay() -> None:
    times = {("fast", "cpu"): (1.0, 1.0), ("pinned", "gpu"): (0.5, 2.0)}
    rows = [one(*of, batch, seconds) for of, both in times.items() for batch, seconds in zip((1, 8), both, strict=True)]
    assert pays(table.frame(rows))["batch"].isna().all()


def test_nothing_to_say_without_both(tmp_path: object) -> None:
    only = [m for m in costs(1e-4, 5e-4, 2e-5) if m.variant in ("fast", "fused")]
    assert pays(table.frame(only)).empty


@pytest.mark.slow
def test_the_page_says_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = write_html(tmp_path, [("run", {}, costs(1e-4, 5e-4, 2e-5))]).read_text()
    assert "GPU break-even batch size" in page
    assert "<td>8</td>" in page
    page = write_html(tmp_path, [("run", {}, costs(1e-5, 5e-4, 2e-5))]).read_text()
    assert "none up to 128" in page
    page = write_html(tmp_path, [("run", {}, costs(1e-5, 5e-4, 2e-5)[:1])]).read_text()
    assert "GPU break-even" not in page


def test_machines_are_not_compared_with_each_other() -> None:
    """A GPU of one machine against the CPU of another, which is ten times as slow."""
    frame = table.frame(costs(1e-5, 5e-4, 2e-5)).assign(machine="quick")  # where the GPU never pays
    slow = table.frame([m for m in costs(1e-4, 5e-4, 2e-5) if m.device == "cpu"]).assign(machine="slow")
    found = pays(pd.concat([frame, slow], ignore_index=True))
    assert found["where"].tolist() == ["quick"]
    assert found["batch"].isna().all()
    both = pd.concat([table.frame(costs(1e-4, 5e-4, 2e-5)).assign(machine="slow"), frame], ignore_index=True)
    found = pays(both)
    assert found["where"].tolist() == ["slow", "quick"]
    assert found["batch"].fillna(-1).tolist() == [8, -1]

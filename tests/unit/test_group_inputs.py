"""The memory of a device that cases need, which the driver may still be releasing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from copycost.engine import group_inputs
from copycost.machine.devices import Condition


@pytest.mark.parametrize(
    ("readings", "found"),
    [([100, 400, 900, 2000], 900), ([100, None, 700], 700), ([100], 100)],
)
def test_memory_of_an_ended_process_is_waited_for(
    readings: Sequence[int | None], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until 700 bytes are free, or it has taken too long."""
    left = list(readings)
    monkeypatch.setattr(
        group_inputs.devices, "condition", lambda: Condition(free_bytes=left.pop(0) if left[1:] else left[0])
    )
    monkeypatch.setattr(group_inputs, "_RELEASE_SECONDS", 0.2)
    assert group_inputs._released(700) == found

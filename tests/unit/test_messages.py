"""Messages from workers: what is sent arrives, and what is not of the expected type is refused, and not executed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from copycost.engine import messages
from copycost.engine.messages import MessageError
from copycost.engine.passes import allocations, audit, call_profile, device_timing, timing
from copycost.engine.records import AllocationTrace, Audit, Calibration, DeviceSample, Sample
from copycost.model.call_profile import CallProfile, MemoryChange
from copycost.model.vocabulary import MemorySpace
from copycost_meter.device_work import Span
from copycost_meter.events import AllocationEvent, AllocationSummary

TRACE = AllocationTrace(
    AllocationSummary(1, 4096, 4096, 0, 3, 100), None, {"allocations": [1, 2]}, 0, ("memray",),
    timeline=(AllocationEvent(4096, "host", "memray", "y = x + 1"),),
)  # fmt: skip

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, bool),
    (3, int),
    (0.1 + 0.2, float),
    ("µ\x1b[31m\ud800", str),
    ([True, False], list[bool]),
    (Audit("ok", None, "2026-01-01T00:00:00+00:00", False, "nothing", "float32", True, 1e-7, 2.0, "ab"), Audit),
    (Audit("wrong", "returned list, not an array"), Audit),
    (TRACE, AllocationTrace),
    ([TRACE, TRACE], list[AllocationTrace]),
    (Calibration(0.5, 12), Calibration),
    (Sample(1e-3, 3, 0.0, "waited"), Sample),
    (DeviceSample(1e-6, None, 2e-6, None), DeviceSample),
    (
        CallProfile(
            (Span("op", "cpu", 0.0, 1.0, 1.0),), (MemoryChange(8, MemorySpace.HOST, "op", None),), 1.0, "profiler"
        ),
        CallProfile,
    ),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_a_value_arrives_as_it_was_sent(value: Any, expected: Any) -> None:
    found = messages.decode(messages.encode(value), expected)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"3"', int), ("true", int), ("3.5", int), ("1", bool), ("null", str), ("[1]", int), ("3", list[int]),
        ("[1, 2]", tuple[int, int, int]), ("{}", Audit), ('{"seconds": 1, "calls": 1}', Sample), ("[]", Calibration),
        ("NaN", float), ("[-Infinity]", list[float]), ("1e999", float), ('{"evidence": -1e999}', dict[str, Any]),
        ('["other", null, 0.1]', tuple[str, None]), ("", int), ("{", dict[str, int]), ("3", object), ("[" * 10**5, int),
        (json.dumps(vars(Audit("ok", None)) | {"more": 1}), Audit),
        (json.dumps(vars(Audit("ok", None)) | {"status": 3}), Audit),
    ],
)  # fmt: skip
def test_what_is_not_of_the_expected_type_is_refused(text: str, expected: Any) -> None:
    with pytest.raises(MessageError):
        messages.decode(text.encode(), expected)


class _Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "executed"
    message = pickle.dumps(_Payload(path))
    with pytest.raises(MessageError):
        messages.decode(message, Audit)
    assert not path.exists()
    pickle.loads(message)
    assert path.exists()  # it would have been


def test_every_request_of_a_session_declares_a_type_that_can_be_sent() -> None:
    from typing import get_type_hints

    functions = [
        audit.audit, allocations.trace_each, timing.calibrate, timing.sample, timing.timed_calls, timing.make_inputs,
        timing.check, timing.use_one_thread, device_timing.sample, device_timing.work, call_profile.profile,
    ]  # fmt: skip
    for function in functions:
        expected = get_type_hints(function)["return"]
        with pytest.raises(MessageError, match=r"is not of type|is of none"):
            messages.decode(b'"no such value"', expected)

"""A run under faults of the system ends in a documented status, leaves nothing behind, and can be continued."""

from __future__ import annotations

import pytest

from peers import faults
from peers.faults import CONDITIONS, Condition


@pytest.fixture(scope="module")
def expected() -> tuple[set[str], float]:
    return faults.expected_cases()


@pytest.mark.parametrize("fraction", [0.15, 0.4, 0.6, 0.8, 0.95])
def test_a_killed_run_leaves_no_process_and_is_continued(expected: tuple[set[str], float], fraction: float) -> None:
    cases, seconds = expected
    assert faults.killed(fraction * seconds, cases) == []


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_a_run_holds(expected: tuple[set[str], float], condition: Condition) -> None:
    found = faults.tried(condition, expected[0])
    if found is None:
        pytest.skip("this condition cannot be made here: no namespaces, or an interpreter that only root can start")
    assert found == []

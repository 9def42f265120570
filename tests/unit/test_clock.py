"""The loops around the clock: how often what is called, and in which order."""

from __future__ import annotations

import weakref

import numpy as np

from copycost.engine import clock


def test_batched_calls_once_each_and_fences_around_them() -> None:
    log: list[str] = []

    def call(x: str) -> str:
        log.append(x)
        return x * 2

    ns, result = clock.batched(call, ["b", "a"], (), 4, lambda: log.append("fence"))
    assert log == ["fence", "b", "a", "b", "a", "fence"]
    assert (result, ns > 0) == ("aa", True)


def test_batched_passes_the_buffer() -> None:
    log = []
    clock.batched(lambda x, out: log.append((x, out)), [1, 3], (2,), 3, lambda: None)
    assert log == [(1, 2), (3, 2), (1, 2)]


def test_one_by_one_prepares_before_every_call_outside_the_clock() -> None:
    log: list[str] = []

    def prepare() -> tuple[int]:
        log.append("prepare")
        for _ in range(200_000):
            pass
        return (1,)

    ns, reset_ns, _ = clock.one_by_one(lambda x: log.append("call"), prepare, 2, lambda: log.append("fence"))
    assert log == ["prepare", "fence", "call", "fence"] * 2
    assert 0 < ns < reset_ns


def test_a_result_is_gone_before_the_next_call() -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def call(x: int) -> np.ndarray:
        assert all(ref() is None for ref in alive)
        result = np.zeros(10)
        alive.append(weakref.ref(result))
        return result

    clock.batched(call, [1], (), 5, lambda: None)
    alive.clear()
    clock.one_by_one(call, lambda: (1,), 5, lambda: None)

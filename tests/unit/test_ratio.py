"""Ratios on samples whose truth is known: intervals hold it, verdicts do not cry wolf, and what cannot be told is not.

Each world does to both sides what machines do: drift, bursts, blocks that differ, heavy tails, two speeds of a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from copycost.analysis.compare import FALSE_ALARMS, TOLERANCE
from copycost.gate.measure import LOOKS
from copycost.stats import ratios
from copycost.stats.ratios import Difference, Ratio

PAIRS = 12

#: A world gives the logarithm of every sample: sides × blocks × pairs.
World = Callable[[np.random.Generator, int], np.ndarray]


def places(random: np.random.Generator, blocks: int, spread: float = 0.01) -> np.ndarray:
    """Where memory came to lie: one value a side and block."""
    return random.normal(0, spread, (2, blocks, 1)) + random.normal(0, 0.02, (2, blocks, PAIRS))


def drift(random: np.random.Generator, blocks: int) -> np.ndarray:
    """A machine that becomes slower by half, the same for both sides of a pair."""
    return places(random, blocks) + np.linspace(0, 0.4, blocks * PAIRS).reshape(1, blocks, PAIRS)


def bursts(random: np.random.Generator, blocks: int) -> np.ndarray:
    """One sample in seven is hit, and takes up to twice as long."""
    hit = random.random((2, blocks, PAIRS)) < 0.15
    return places(random, blocks) + hit * random.uniform(0, 0.7, hit.shape)


def heavy(random: np.random.Generator, blocks: int) -> np.ndarray:
    """Samples with the tails of Student's t with two degrees of freedom, which have no variance."""
    return places(random, blocks) + 0.03 * random.standard_t(2, (2, blocks, PAIRS))


def heavy_blocks(random: np.random.Generator, blocks: int) -> np.ndarray:
    """Blocks, too, with heavy tails."""
    return places(random, blocks, 0.0) + 0.01 * random.standard_t(3, (2, blocks, 1))


def two_modes(random: np.random.Generator, blocks: int) -> np.ndarray:
    """A CPU of two speeds, which change every few pairs: both sides of most pairs see the same one."""
    switches = random.random((blocks, PAIRS)) < 0.2
    slow = np.cumsum(switches.reshape(-1)).reshape(blocks, PAIRS) % 2
    torn = switches & (random.random((blocks, PAIRS)) < 0.5)
    return places(random, blocks) + 0.4 * np.stack([slow, np.where(torn, 1 - slow, slow)])


WORLDS: list[World] = [places, drift, bursts, heavy, heavy_blocks, two_modes]


def difference(world: World, random: np.random.Generator, blocks: int, truth: float = 0.0) -> Difference:
    logs = world(random, blocks)
    logs[1] += truth
    seconds = 1e-3 * np.exp(logs)
    found = ratios.paired(seconds[0].tolist(), seconds[1].tolist())
    assert found is not None
    return found


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_the_interval_of_a_pair_holds_the_truth_in_every_world(world: World) -> None:
    random = np.random.default_rng(1)
    trials = 600
    truth = math.log(1.05)
    held = 0
    for _ in range(trials):
        found = difference(world, random, 9, truth).ratio(0.01)
        held += found.low <= 1.05 <= found.high
    # Three standard errors below; heavy tails make an interval of Student's t hold more often than it says.
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials) <= held / trials <= 0.99


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_twelve_cases_that_are_the_same_are_hardly_ever_called_slower(world: World) -> None:
    """Of 150 comparisons of twelve cases each, one in a hundred may say slower or faster of any case."""
    random = np.random.default_rng(2)
    alarms = 0
    for _ in range(150):
        verdicts = {
            difference(world, random, 9).ratio(FALSE_ALARMS / 12).verdict(TOLERANCE) for _ in range(12)
        }  # fmt: skip
        alarms += bool(verdicts & {"slower", "faster"})
    assert alarms <= 6  # P(more | one in a hundred) < 0.1 %


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_a_slower_side_is_never_called_the_same(world: World) -> None:
    random = np.random.default_rng(3)
    verdicts = [
        difference(world, random, blocks, math.log(1.10)).ratio(FALSE_ALARMS / 12).verdict(TOLERANCE)
        for blocks in (3, 5, 9, 16, 40)
        for _ in range(40)
    ]
    assert set(verdicts) <= {"slower", "unsure"}
    assert set(verdicts[-40:]) == {"slower"}


def test_the_least_change_is_found_four_times_in_five() -> None:
    random = np.random.default_rng(4)
    stated = float(np.median([difference(places, random, 12).ratio(0.001).least for _ in range(200)]))
    found = [
        difference(places, random, 12, math.log(1 + stated)).ratio(0.001).verdict(0.0001) == "slower"
        for _ in range(600)
    ]
    assert 0.7 < np.mean(found) < 0.9


def test_a_burst_over_one_side_of_some_pairs_moves_nothing() -> None:
    quiet = [[1.0] * 12] * 6
    hit = [[1.0] * 8 + [5.0] * 4] * 6
    found = ratios.paired(quiet, hit)
    assert found is not None
    assert found.value == 0.0


def test_verdicts_by_where_the_interval_lies() -> None:
    def verdict(low: float, high: float) -> str:
        return Ratio(math.sqrt(low * high), low, high, low, high, 0.1, 9, 0.01).verdict(0.03)

    assert verdict(1.01, 1.2) == "slower"
    assert verdict(0.8, 0.99) == "faster"
    assert verdict(0.98, 1.02) == "same"
    assert verdict(0.98, 1.04) == "unsure"
    assert verdict(1.001, 1.02) == "same"  # surely slower, and by less than what counts
    assert verdict(0.5, 2.0) == "unsure"


def apart(random: np.random.Generator, cases: int, truth: dict[int, float], shift: float, scatter: float) -> list[str]:
    """Verdicts on two runs of different times: the machine has shifted, and each case a little besides."""
    sides = []
    for i in range(cases):
        moved = shift + random.normal(0, scatter) + truth.get(i, 0.0)
        base, head = (np.exp(at + random.normal(0, 0.02, (5, 4))) for at in (0.0, moved))
        sides.append((base.tolist(), head.tolist()))
    differences = ratios.unpaired(sides)
    return [one.ratio(FALSE_ALARMS / cases).verdict(TOLERANCE) for one in differences if one is not None]


@pytest.mark.parametrize("shift", [0.0, 0.1, -0.3])
def test_runs_of_different_times_are_not_called_slower_for_the_machine(shift: float) -> None:
    random = np.random.default_rng(5)
    alarms = sum(
        bool({"slower", "faster"} & set(apart(random, 20, {}, shift, 0.04))) for _ in range(150)
    )  # fmt: skip
    assert alarms <= 4  # P(more | one in a hundred) = 2 %


def test_one_case_that_stands_out_of_runs_of_different_times_is_found() -> None:
    random = np.random.default_rng(6)
    found = [apart(random, 20, {7: math.log(2.0)}, 0.03, 0.03)[7] for _ in range(50)]
    assert found.count("slower") >= 45


def test_few_cases_of_different_times_are_as_uncertain_as_machines_are() -> None:
    """Two cases cannot say how far apart runs are; +10 % is then nothing to be sure of."""
    random = np.random.default_rng(7)
    verdicts = {word for _ in range(50) for word in apart(random, 2, {0: math.log(1.1), 1: math.log(1.1)}, 0.0, 0.0)}
    assert verdicts == {"unsure"}


def test_one_block_tells_nothing() -> None:
    assert ratios.paired([[1.0, 1.0]], [[1.0, 1.0]]) is None
    assert ratios.unpaired([([[1.0]], [[1.0], [1.1]])]) == [None]


def test_blocks_that_are_all_equal_have_an_interval_without_width() -> None:
    found = ratios.paired([[1.0]] * 3, [[1.1]] * 3)
    assert found is not None
    assert found.ratio(0.01).verdict(0.03) == "slower"
    (other,) = ratios.unpaired([([[1.0]] * 3, [[1.0]] * 3)])
    assert other is not None
    assert other.ratio(0.01).low < 1 < other.ratio(0.01).high


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.005, 0.02, 0.06])
def test_to_look_again_and_again_makes_no_false_alarms(spread: float) -> None:
    """The gate's whole scheme: twelve cases, every look with its share, and the last one with the other half."""
    random = np.random.default_rng(8)
    alarms = 0
    for _ in range(300):
        words = set()
        for _ in range(12):
            blocks = np.exp(random.normal(0, spread, (37, 1))).tolist()
            for n in (*(look for look in LOOKS if look < 37), 37):
                share = FALSE_ALARMS / 2 / 12 / (len(LOOKS) if n < 37 else 1)
                found = ratios.paired([[1.0]] * n, blocks[:n])
                assert found is not None
                word = found.ratio(share).verdict(TOLERANCE)
                if word != "unsure":
                    break
            words.add(word)
        alarms += bool(words & {"slower", "faster"})
    assert alarms <= 9  # P(more | one in a hundred) = 0.1 %

"""Variants that are wrong, that die, that hang: each costs its own case, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import BAD, by_variant, measure

from suite.measurement import Measurement

N = 64 * 48 * 3 * 4  # bytes of one array of the small images


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    return by_variant(measure(files=(BAD,), variants=("*",), timeout=4))


EXPECTED = {
    "good": ("ok", None),
    "good-out": ("ok", None),
    "lookup": ("skipped", "it is for uint8 only"),
    "wrong-constant": ("wrong", "off by up to"),
    "wrong-last-pixel": ("wrong", "off by up to 0.001"),
    "changes-input": ("ok", None),
    "first-answer": ("wrong", "(call 2)"),
    "answer-by-array": ("wrong", "(call 4)"),
    "answers-early": ("wrong", "not finite"),
    "ignores-buffer": ("wrong", "not in the buffer"),
    "raises-on-seventh": ("failed", "raised ValueError: seven is one too many (call 7)"),
    "raises-later": ("failed", "raised ValueError: enough"),
    "exits": ("crashed", "status 3"),
    "leaves": ("failed", "SystemExit"),
    "segfaults": ("crashed", "SIGSEGV"),
    "sleeps": ("timeout", "more than 4 s"),
    "sleeps-while-preparing": ("timeout", "more than 4 s"),
    "prints": ("ok", None),
    "allocates-in-a-loop": ("ok", None),
    "keeps-copies": ("ok", None),
    "returns-a-list": ("wrong", "returned list"),
    "returns-another-shape": ("wrong", "1×64×48×2"),
    "returns-nan": ("wrong", "not finite in 1 of"),
    "is-no-function": ("failed", "not a function"),
}


@pytest.mark.parametrize("variant", EXPECTED)
def test_each_fault_has_its_status_and_its_reason(measured: dict[str, Measurement], variant: str) -> None:
    status, reason = EXPECTED[variant]
    m = measured[variant]
    assert m.status == status, m.reason
    if reason is None:
        assert m.reason is None
    else:
        assert reason in (m.reason or "")
        assert "\n" not in (m.reason or "")
    assert m.unexpected == (status in ("wrong", "failed", "crashed", "timeout"))
    assert (m.seconds is not None) == (status == "ok")


def test_variants_beside_them_are_unharmed(measured: dict[str, Measurement]) -> None:
    shipped = [m for name, m in measured.items() if name.startswith(("numpy-", "tf-", "keras-"))]
    assert len(shipped) == 14
    assert {m.status for m in shipped} == {"ok"}
    assert measured["numpy-new"].allocated_bytes == 2 * N
    assert measured["good-out"].allocations == 0


def test_a_float64_result_is_wrong_where_the_input_is_uint8() -> None:
    (m,) = measure(files=(BAD,), variants=("returns-float64",), dtypes=("uint8",))
    assert (m.status, m.reason, m.result_dtype) == ("wrong", "returned float64, not float32 (call 1)", "float64")


def test_a_changed_input_is_seen_and_restored(measured: dict[str, Measurement]) -> None:
    m = measured["changes-input"]
    assert m.input_changed
    assert m.result_shares == "nothing"


def test_what_is_allocated_and_freed_in_a_loop_is_counted(measured: dict[str, Measurement]) -> None:
    good, loop = measured["good"], measured["allocates-in-a-loop"]
    assert loop.allocations == (good.allocations or 0) + 10
    assert loop.allocated_bytes == (good.allocated_bytes or 0) + 10 * 1_000_003
    assert loop.peak_bytes == 1_000_003
    assert loop.retained_bytes == N


def test_what_is_kept_of_every_call_is_retained(measured: dict[str, Measurement]) -> None:
    assert measured["keeps-copies"].retained_bytes == 2 * N
    assert measured["good"].retained_bytes == N


def test_a_case_that_keeps_much_is_called_only_as_often_as_memory_allows(tmp_path: Path) -> None:
    path = tmp_path / "greedy.py"
    path.write_text(
        "import numpy as np\n"
        "from suite import variant\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def greedy(example):\n"
        "    kept = []\n"
        "    def call(x):\n"
        "        kept.append(np.ones(300 * 2**20, np.uint8))\n"
        "        return x / np.float32(127.5) - np.float32(1)\n"
        "    return call\n"
    )
    (m,) = measure(files=(path,), variants=("greedy",))
    assert m.status == "ok", m.reason
    assert (m.retained_bytes or 0) > 300 * 2**20
    assert (m.calls or 0) < 200


def test_a_fault_that_shows_only_in_timed_calls_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text(
        "import numpy as np\n"
        "from suite import variant\n"
        "def counted(fault):\n"
        "    def prepare(example):\n"
        "        calls = []\n"
        "        def call(x):\n"
        "            calls.append(1)\n"
        "            y = x / np.float32(127.5) - np.float32(1)\n"
        "            if len(calls) > 60:\n"
        "                fault(x, y)\n"
        "            return y\n"
        "        return call\n"
        "    return prepare\n"
        "def wrong(x, y): y.flat[5] = 7\n"
        "def changing(x, y): x.flat[5] += 1\n"
        "variant(recipe='tf', runtime='numpy', writes='new', name='late-wrong')(counted(wrong))\n"
        "variant(recipe='tf', runtime='numpy', writes='new', name='late-changing')(counted(changing))\n"
    )
    found = by_variant(measure(files=(path,), variants=("late-*",)))
    assert found["late-wrong"].status == "wrong"
    assert "last timed call" in (found["late-wrong"].reason or "")
    # The input is the same array for all timed calls, so what was changed in it shows in the result, or in itself.
    assert found["late-changing"].status == "wrong"


def test_a_file_that_touches_the_device_as_it_is_imported(tmp_path: Path) -> None:
    """TensorFlow's threads do not survive a fork, so such a file has a fresh process for every block."""
    path = tmp_path / "eager.py"
    path.write_text(
        "import tensorflow as tf\n"
        "from suite import variant\n"
        "SCALE = tf.constant(127.5)\n"
        "@variant(recipe='tf', runtime='tensorflow', writes='new')\n"
        "def with_constant(example):\n"
        "    return tf.function(lambda x: x / SCALE - 1.0)\n"
        "@variant(recipe='tf', runtime='tensorflow', writes='new')\n"
        "def off_by_one(example):\n"
        "    return lambda x: x / SCALE\n"
    )
    found = by_variant(measure(files=(path,), variants=("with-constant", "off-by-one", "tf-graph"), blocks=1))
    assert found["with-constant"].status == "ok", found["with-constant"].reason
    assert found["with-constant"].allocations == 1
    assert found["off-by-one"].status == "wrong"
    assert found["tf-graph"].status == "ok"


def test_no_process_outlives_its_session() -> None:
    next(iter(measure(files=(BAD,), variants=("sleeps", "good"), timeout=1)))
    ours = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path("/proc", pid, "cmdline").read_bytes()
        except OSError:
            continue
        if b"suite.measure.zygote" in command and Path("/proc", pid, "stat").read_text().split()[3] == str(os.getpid()):
            ours.append(command)
    assert not ours

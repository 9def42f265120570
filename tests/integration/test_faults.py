"""Variants that are wrong, that die, that hang: each costs its own case, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import BAD, by_variant, measure

from copycost import registry
from copycost.model.measurement import Measurement

N = 64 * 48 * 3 * 4  # bytes of one array of the small images


SHIPPED = [
    v.name
    for v in registry.variants.values()
    if v.recipe == "tf"
    and v.runtime in ("numpy", "keras", "tensorflow")
    and v.name not in ("numpy-blocked", "numpy-table")
]


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    sleepers = ("sleeps", "sleeps-while-preparing")
    names = set(SHIPPED) | set(EXPECTED) | {"returns-float64"}
    others = tuple(sorted(names - set(sleepers)))
    return by_variant([*measure(files=(BAD,), variants=others), *measure(files=(BAD,), variants=sleepers, timeout=2)])


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
    "sleeps": ("timeout", "more than 2 s"),
    "sleeps-while-preparing": ("timeout", "more than 2 s"),
    "prints": ("ok", None),
    "allocates-in-a-loop": ("ok", None),
    "keeps-copies": ("ok", None),
    "returns-a-list": ("wrong", "returned list"),
    "returns-another-shape": ("wrong", "1×64×48×2"),
    "returns-nan": ("wrong", "not finite in 1 of"),
    "is-no-function": ("failed", "not a function"),
    "dies-traced": ("crashed", "status 5"),
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
    assert len(SHIPPED) == 14
    assert {measured[name].status for name in SHIPPED} == {"ok"}
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
        "from copycost import variant\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def greedy(example):\n"
        "    kept = []\n"
        "    def call(x):\n"
        "        kept.append(np.empty(300 * 2**20, np.uint8))\n"  # never touched: fast enough for thousands of calls
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
        "from copycost import variant\n"
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
    assert "in a timed call" in (found["late-wrong"].reason or "")
    # The input is the same array for all timed calls, so what was changed in it shows in the result, or in itself.
    assert found["late-changing"].status == "wrong"


def test_a_file_that_touches_the_device_as_it_is_imported(tmp_path: Path) -> None:
    """TensorFlow's threads do not survive a fork, so such a file has a fresh process for every block."""
    path = tmp_path / "eager.py"
    path.write_text(
        "import tensorflow as tf\n"
        "from copycost import variant\n"
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


def fork_servers() -> set[str]:
    """Every process of a session of this process's that is alive, whoever is its parent now."""
    found = set()
    session = f"copycost-session-{os.getpid()}-".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            its = Path("/proc", pid)
            if (
                b"copycost.engine.fork_server" in (its / "cmdline").read_bytes()
                and session in (its / "environ").read_bytes()
            ):
                found.add(pid)
        except OSError:
            continue
    return found


def test_no_process_and_no_file_outlives_its_session() -> None:
    def folders() -> set[Path]:
        places = (Path(tempfile.gettempdir()), Path("/dev/shm"))
        return {path for place in places for path in place.glob(f"copycost-session-{os.getpid()}-*")}

    before, files = fork_servers(), folders()
    session = measure(files=(BAD,), variants=("sleeps", "good", "dies-traced"), timeout=3)
    next(session)
    assert fork_servers() > before
    session.close()
    assert fork_servers() <= before
    assert folders() <= files


def test_a_variant_that_forks_or_writes_to_its_connection_costs_its_own_case(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text(
        "import os\n"
        "import numpy as np\n"
        "from copycost import variant\n"
        "def odd(fault):\n"
        "    def prepare(example):\n"
        "        calls = []\n"
        "        def call(x):\n"
        "            calls.append(1)\n"
        "            if len(calls) == 1:\n"
        "                fault()\n"
        "            return x / np.float32(127.5) - np.float32(1)\n"
        "        return call\n"
        "    variant(recipe='tf', runtime='numpy', writes='new', name=fault.__name__.replace('_', '-'))(prepare)\n"
        "def odd_forks(): os.fork()\n"
        "def odd_writes():\n"
        "    for fd in range(3, 40):\n"
        "        try: os.write(fd, b'hello world')\n"
        "        except OSError: pass\n"
        "def odd_closes(): os.closerange(3, 64)\n"
        "def odd_kills():\n"
        "    os.kill(os.getppid(), 9)\n"
        "def odd_text(): raise ValueError('bad \\udcff \\x1b[31m')\n"
        "class Silent(Exception):\n"
        "    def __str__(self): raise RuntimeError\n"
        "def odd_error(): raise Silent\n"
        "for fault in (odd_forks, odd_writes, odd_closes, odd_text, odd_error, odd_kills): odd(fault)\n"
    )
    # One at a time, the one that kills the others' parent last.
    found = by_variant(
        m for name in ("forks", "writes", "closes", "text", "error", "kills")
        for m in measure(files=(path,), variants=(f"odd-{name}",), blocks=1, timeout=20)
    )  # fmt: skip
    assert found["odd-forks"].status == "ok", found["odd-forks"].reason
    assert found["odd-writes"].status == "crashed"
    assert found["odd-closes"].status == "crashed"
    assert found["odd-kills"].status == "crashed"
    assert found["odd-text"].reason == "raised ValueError: bad \\udcff \\x1b[31m (call 1)"
    assert found["odd-error"].reason == "raised Silent (call 1)"


def test_after_a_variant_has_killed_the_others_parent_there_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "kills.py"
    path.write_text(
        "import os, time, numpy as np\n"
        "from copycost import variant\n"
        "@variant(recipe='caffe', runtime='numpy', writes='new')\n"
        "def kills(example): return lambda x: (os.kill(os.getppid(), 9), time.sleep(60))\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def after(example): return lambda x: x / np.float32(127.5) - np.float32(1)\n"
    )
    found = by_variant(measure(recipes=("caffe", "tf"), files=(path,), variants=("kills", "after"), blocks=1))
    assert found["kills"].status == "crashed"
    assert found["after"].status == "ok", found["after"].reason


def test_an_answer_that_is_remembered_or_reused_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "memory.py"
    path.write_text(
        "import numpy as np\n"
        "from copycost import variant\n"
        "def right(x): return x / np.float32(127.5) - np.float32(1)\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def by_value(example):\n"
        "    known = {}\n"
        "    def call(x):\n"
        "        key = x.tobytes()\n"
        "        if key not in known: known[key] = right(x)\n"
        "        return known[key]\n"
        "    return call\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def private_buffer(example):\n"
        "    out = np.empty(example.shape, np.float32)\n"
        "    def call(x):\n"
        "        out[...] = right(x)\n"
        "        return out\n"
        "    return call\n"
        "@variant(recipe='tf', runtime='numpy', writes='input')\n"
        "def warmed_up(example):\n"
        "    def call(x):\n"
        "        x /= np.float32(127.5)\n"
        "        x -= np.float32(1)\n"
        "    call(example)\n"
        "    return call\n"
    )
    found = by_variant(measure(files=(path,), variants=("by-value", "private-buffer", "warmed-up"), blocks=1))
    assert found["by-value"].status == "wrong"
    assert "an earlier result was changed" in (found["private-buffer"].reason or "")
    assert found["warmed-up"].status == "ok", found["warmed-up"].reason


def test_a_file_cannot_have_another_process_killed(tmp_path: Path) -> None:
    """Its process answers with the id of a process that it has not started, which would be ended with the case."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        path = tmp_path / "forged.py"
        path.write_text(
            f"import os\n\nfrom copycost import variant\n\nos.fork = lambda: {victim.pid}\n\n\n"
            '@variant(recipe="tf", runtime="numpy", writes="new")\ndef forged(example):\n'
            "    return lambda x: x / 127.5 - 1\n"
        )
        found = by_variant(measure(files=(path,), variants=("forged",)))
        assert (found["forged"].status, found["forged"].reason) == (
            "crashed", "the process for numpy has answered with a wrong process id",
        )  # fmt: skip
        assert victim.poll() is None
        victim.communicate(b"\n")
        assert victim.returncode == 0

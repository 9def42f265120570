"""The processes of a session: what they have imported, what they have not, and where the time went."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import measure

from copycost import registry
from copycost.cases import images
from copycost.cases.case import Case, CaseError
from copycost.cases.feasibility import misfit, shared_bytes, skip_reason, worker_bytes
from copycost.cases.profiles import PROFILES, Axes
from copycost.cases.selection import check_axes, expand, select
from copycost.catalog import discovery, import_context
from copycost.engine.case_state import CaseState, Group
from copycost.engine.group_files import Files
from copycost.engine.plan import Plan
from copycost.engine.records import Audit, BlockRecord, Sample
from copycost.engine.schedule import due, undecided
from copycost.engine.session import Session
from copycost.engine.time_account import SPENDING
from copycost.engine.worker import CaseFailure, ForkServer
from copycost.engine.worker_pool import WorkerPool
from copycost.machine import devices
from copycost.model.source import Source


def libraries(pid: int) -> set[str]:
    """The shared libraries that a process has loaded."""
    lines = Path("/proc", str(pid), "maps").read_text().splitlines()
    return {Path(line.split()[-1]).name for line in lines if "/" in line}


def test_the_parent_imports_no_framework() -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from conftest import measure\n"
        "rows = list(measure(variants=('tf-eager', 'keras-numpy', 'numpy-out'), blocks=1))\n"
        "import json; print(json.dumps([[m.status for m in rows],\n"
        "    sorted({n.partition('.')[0] for n in sys.modules} & {'tensorflow', 'keras', 'cupy', 'memray', 'torch'}),\n"
        "    [l.split()[-1] for l in open('/proc/self/maps') if 'libcuda' in l or 'libtensorflow' in l]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == [["ok"] * 3, [], []], done.stderr


@pytest.mark.parametrize("runtime", ["numpy", "keras", "tensorflow", "numba", "numexpr", "torch", "jax"])
def test_a_fork_server_initialises_nothing(runtime: str) -> None:
    """No CUDA driver is loaded, and no thread is there but those of two libraries that start them again in a fork."""
    one = {"OPENBLAS_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}
    fork_server = ForkServer(runtime, Source("copycost"), import_context.child_environment() | one)
    try:
        fork_server.ready()
        assert fork_server.forkable
        assert len(os.listdir(f"/proc/{fork_server.process.pid}/task")) == 1
        # TensorFlow may load CUDA's runtime library, which initialises nothing.
        assert not [name for name in libraries(fork_server.process.pid) if name.startswith("libcuda.so")]
        descriptors = Path(f"/proc/{fork_server.process.pid}/fd").iterdir()
        assert not [link for link in map(os.readlink, descriptors) if link.startswith("/dev/nvidia")]
    finally:
        fork_server.close()


def test_a_runtime_that_does_not_import_says_so(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('built for another machine')")
    environment = import_context.child_environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    fork_server = ForkServer("tensorflow", Source("copycost"), environment)
    try:
        for _ in range(2):  # every case that asks is told
            with pytest.raises(CaseFailure, match="raised RuntimeError: built for another machine"):
                fork_server.ready()
    finally:
        fork_server.close()


def test_threads_reach_every_runtime(tmp_path: Path) -> None:
    path = tmp_path / "threads.py"
    path.write_text(
        "import os, numpy as np\n"
        "from copycost import variant\n"
        "@variant(recipe='tf', runtime='tensorflow', writes='new')\n"
        "def told(example):\n"
        "    import tensorflow as tf\n"
        "    assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "    assert tf.config.threading.get_inter_op_parallelism_threads() == 1\n"
        "    assert os.environ['OMP_NUM_THREADS'] == os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        "    return lambda x: x / 127.5 - 1.0\n"
    )
    cases = select(
        recipes=("tf",), variants=("told",), batches=(1,), sizes=((8, 8),), dtypes=("float32",), files=(path,)
    )
    with Session(Plan(1, 1, 1, 60, "no GPU is wanted here"), images.read()) as session:
        cpu = [m for m in session.measure(cases) if m.device == "cpu"]
    assert [(m.status, m.reason, m.threads) for m in cpu] == [("ok", None, 1)]


def test_the_time_spent_adds_up_to_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    from time import monotonic

    axes = Axes(("tf",), (1,), ((64, 48),), ("float32",), ("channels_last",))
    cases = expand(axes, registry.variants.values(), registry.recipes, only_variants=("numpy-[!t]*",))
    start = monotonic()
    with Session(Plan(2, 3, 5, 60, "none"), images.read()) as session:
        assert {m.status for m in session.measure(cases)} == {"ok"}
        wall = monotonic() - start
        assert set(session.time_account.seconds) == set(SPENDING)
        assert sum(session.time_account.seconds.values()) == pytest.approx(wall, rel=0.1)


def test_a_block_is_one_value_and_the_median_is_between_its_samples() -> None:
    (m,) = measure(variants=("numpy-out",), blocks=4, budget=60)
    assert (m.blocks, m.stopped_by) == (4, "blocks")
    assert m.samples is not None
    assert m.seconds is not None
    flat = [s for block in m.samples for s in block]
    assert len(m.samples) == 4
    assert min(flat) <= m.seconds <= max(flat)
    assert m.images_per_second == pytest.approx(1 / m.seconds)
    assert m.bytes_moved == 2 * 64 * 48 * 3 * 4
    assert m.copy_fraction is not None


def test_a_budget_cuts_blocks_and_never_below_three() -> None:
    found = list(measure(variants=("numpy-[!t]*",), blocks=50, budget=0.01))
    assert {(m.blocks, m.stopped_by) for m in found} == {(3, "budget")}


def test_what_uses_one_thread_stays_on_one_cpu_with_its_group(tmp_path: Path) -> None:
    """And what uses several does not; the audit, which tells them apart, is on all."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    path = tmp_path / "where.py"
    path.write_text(f"""
import os
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
import numpy as np
from copycost import variant

def noted(name, x):
    with open({str(tmp_path)!r} + "/" + name, "a") as file:
        file.write(f"{{os.getpid()}} {{' '.join(map(str, sorted(os.sched_getaffinity(0))))}}\\n")
    return x / np.float32(127.5) - np.float32(1)

@variant(recipe="tf", runtime="numpy", writes="new")
def one(example):
    return lambda x: noted("one", x)

@variant(recipe="tf", runtime="numpy", writes="new")
def also_one(example):
    return lambda x: noted("also_one", x)

@variant(recipe="tf", runtime="numpy", writes="new")
def several(example):
    pool = ThreadPoolExecutor(2)
    return lambda x: pool.submit(noted, "several", x).result()

@variant(recipe="tf", runtime="numpy", writes="new")
def waits_busily(example):
    pool = ThreadPoolExecutor(1)
    def call(x):
        working = pool.submit(noted, "waits_busily", x)
        until = perf_counter() + 0.02
        while perf_counter() < until:
            pass
        return working.result()
    return call
""")
    found = list(measure(variants=("one", "also-one", "several", "waits-busily"), files=(path,), blocks=3, budget=60))
    assert {m.status for m in found} == {"ok"}
    everywhere = tuple(sorted(os.sched_getaffinity(0)))

    def places(name: str) -> list[tuple[int, ...]]:
        """Where each process was, the one of the audit first."""
        lines = [list(map(int, line.split())) for line in (tmp_path / name).read_text().splitlines()]
        return list({process: tuple(cpus) for process, *cpus in lines}.values())

    one, also = places("one"), places("also_one")
    assert one[0] == also[0] == everywhere
    assert [len(cpus) for cpus in one[1:]] == [1, 1, 1]
    assert one[1:] == also[1:]
    # What the other thread does may be a small part of the time.
    assert set(places("several")) == set(places("waits_busily")) == {everywhere}


def test_threads_that_work_for_microseconds_are_seen() -> None:
    """Those of OpenMP share a call of some 30 µs; on one CPU one would spin for 16 ms while the other waits for it."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    cases = select(
        recipes=("tf",), variants=("torch-inplace", "torch-out", "numpy-out"), devices=("cpu",), batches=(1,),
        sizes=((224, 224),), dtypes=("float32",), layouts=("channels_last",),
    )  # fmt: skip
    with Session(Plan(2, 1, 0.0, 60, "none"), images.read()) as session:
        group, states = session.examine(cases)
        assert group is not None
        group.close()
    found = {state.case.variant.name: state.one_thread for state in states}
    assert found == {"torch-inplace": False, "torch-out": False, "numpy-out": True}


def in_progress(variant: str, *seconds: float, input_changed: bool = False) -> CaseState:
    """A case with blocks of these times."""
    state = CaseState(case(variant), 60, 60)
    state.audit = Audit("ok", None, input_changed=input_changed, result_shares="nothing")
    state.records = [BlockRecord((Sample(one, 1, 0.0),)) for one in seconds]
    return state


def test_the_budget_goes_to_what_is_not_clear() -> None:
    plan = Plan(1, 9, 60, 60, "none")
    fastest = in_progress("numba-out", 0.1, 0.1, 0.1001, 0.1, 0.1)
    narrow = in_progress("numpy-out", 1.0, 1.001, 0.999, 1.0, 1.0)
    wide = in_progress("tf-eager", 1.0, 1.3, 0.7, 1.0, 1.1)
    few = in_progress("tf-graph", 1.0, 1.0)
    assert due([fastest, narrow, wide, few], plan, 0.05) == [few]
    few.records *= 2  # narrow by chance: four blocks are too few to say so
    assert due([fastest, narrow, wide, few], plan, 0.05) == [wide, few]
    assert (fastest.stopped_by, narrow.stopped_by) == ("clear", "clear")
    wide.records *= 2
    assert due([fastest, narrow, wide, few], plan, 0.05) == [few]
    assert wide.stopped_by == "blocks"
    fresh = in_progress("numpy-out", 1.0, 1.001, 0.999, 1.0, 1.0)
    assert due([fresh, few], Plan(1, 6, math.inf, 60, "none"), 0.05) == [fresh, few]


def test_a_headline_is_decided_by_a_difference_or_by_its_absence() -> None:
    fastest = in_progress("numba-out", 1.00, 1.01, 0.99, 1.00, 1.01)
    slower = in_progress("numpy-new", 2.00, 2.01, 1.99, 2.00, 2.01)
    same = in_progress("numexpr-out", 1.00, 1.01, 0.99, 1.01, 1.00)
    close = in_progress("keras-numpy", 1.02, 1.30, 0.90, 1.10, 1.00)
    third = in_progress("tf-eager", 1.05, 1.35, 0.95, 1.05, 1.04)
    assert undecided([fastest, slower], 0.05) == []
    assert undecided([fastest, same, slower], 0.05) == []
    assert undecided([fastest, slower, close, same], 0.05) == [fastest, close]
    # Neither runner-up nor baseline: no headline is about it.
    assert undecided([fastest, same, slower, third], 0.05) == []
    assert undecided([in_progress("tf-eager", 1.0, 1.0), *[in_progress("numpy-out", 1.0)]], 0.05) == []
    # What changes its input is not chosen, and is compared with nothing.
    inplace = in_progress("numpy-inplace", 1.0, 1.4, 0.8, 0.9, 1.2, input_changed=True)
    assert undecided([inplace, fastest, slower], 0.05) == []


@pytest.mark.parametrize(("decide", "blocks"), [(0.0, 3), (60.0, 6)])
def test_time_beyond_the_budget_is_for_what_is_undecided(decide: float, blocks: int, tmp_path: Path) -> None:
    """Two variants are the faster one in turns; the third never is."""
    path = tmp_path / "turns.py"
    path.write_text(f"""
import time
from copycost import variant

def taking(name, *seconds):
    def prepare(example):
        with open({str(tmp_path)!r} + "/" + name, "a+") as file:
            print("a process", file=file, flush=True)
            file.seek(0)
            wait = seconds[len(file.readlines()) % len(seconds)]
        def call(x):
            time.sleep(wait)
            return x / 127.5 - 1
        return call
    prepare.__name__ = name
    variant(recipe="tf", runtime="numpy", writes="new", accepts=("float64",))(prepare)

taking("heads", 0.004, 0.012)
taking("tails", 0.012, 0.004)
taking("never", 0.04)
""")
    names = ("heads", "tails", "never")
    cases = select(
        recipes=("tf",), variants=names, devices=("cpu",), batches=(1,), sizes=((8, 8),), dtypes=("float64",),
        layouts=("channels_last",), files=(path,),
    )  # fmt: skip
    with Session(Plan(2, 6, 0.01, 60, "none", decide=decide), images.read()) as session:
        found = {m.variant: (m.status, m.blocks, m.stopped_by) for m in session.measure(cases)}
    stopped = "blocks" if decide else "budget"
    assert found == {
        "heads": ("ok", blocks, stopped),
        "tails": ("ok", blocks, stopped),
        "never": ("ok", 3, "budget"),
    }


def test_time_for_what_is_undecided_begins_when_the_least_blocks_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may take longer than the budget, which is then no reason to decide nothing. A block of a case takes 1 s."""
    now = 0.0
    monkeypatch.setattr("copycost.engine.session.monotonic", lambda: now)
    seconds = {"numpy-out": (1.0, 3.0), "numpy-copy": (3.0, 1.0), "numpy-new": (9.0, 9.0)}
    states = [CaseState(case(name), 60, 60, 1, audit=Audit("ok", None, "", False, "nothing")) for name in seconds]

    def run(states: list[CaseState], *_: object) -> None:
        nonlocal now
        for state in states:
            now += 1
            turn = seconds[state.case.variant.name][len(state.records) % 2]
            state.records.append(BlockRecord((Sample(turn, 1, 0.0),) * 4))

    with Session(Plan(1, 9, 2.0, 60, "none"), images.read()) as session:
        monkeypatch.setattr(session.runner, "run", run)
        session._time(states, Group(Path(), Files(), 0, 0, 3), 2.0, 5.0)
        assert session._extra_seconds == now - 9  # after three blocks of three cases
    assert 9 + 3 <= now <= 9 + 5
    assert [len(state.records) for state in states[:2]] == [5, 5]


@pytest.mark.parametrize("late", ["check", "sample"])
def test_a_block_that_is_cut_at_its_end_is_no_block(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three blocks are whole; the fourth has all samples but the last, or all of them, and was not checked."""
    asked: list[str] = []
    ask = WorkerPool.ask

    def cut(self: WorkerPool, state: Any, job: Any, what: str, method: Any, *args: Any) -> Any:
        name = method.__name__
        asked.append(name)
        if asked.count("check") + (late != "check") == 4 and name == late and asked.count("sample") % 4 == 0:
            self.close_worker(job.worker)
            raise CaseFailure("timeout", "took more than 1 s")
        return ask(self, state, job, what, method, *args)

    monkeypatch.setattr(WorkerPool, "ask", cut)
    monkeypatch.setattr("copycost.engine.session.MOST_ROUNDS", 4)
    (m,) = measure(variants=("numpy-out",), blocks=9, budget=60)
    assert (m.status, m.stopped_by, m.blocks) == ("ok", "timeout", 3)
    assert m.samples is not None
    assert m.marks is not None
    assert [len(block) for block in m.samples] == [len(block) for block in m.marks] == [4, 4, 4]


def case(variant: str = "numpy-out", **changes: object) -> Case:
    values = {"device": "cpu", "dtype": "float32", "layout": "channels_last", "batch": 32, "height": 224, "width": 224}
    return Case(registry.recipes["tf"], registry.variants["tf", variant], **values | changes)  # type: ignore[arg-type]


def test_what_does_not_fit_in_memory_is_skipped_with_both_figures() -> None:
    large = case(batch=4096, height=2048, width=2048)
    reason = skip_reason(large, None, 8 * 2**30)
    assert reason is not None
    needed = shared_bytes(large, large.elements) + worker_bytes(large, large.elements)
    assert reason == f"needs about {needed / 2**30:.3g} GiB, and 8 GiB of memory is free"
    assert skip_reason(case(), None, 8 * 2**30) is None


def test_every_reason_to_skip() -> None:
    plenty = 2**40
    assert "does not fit over" in (skip_reason(case("numpy-inplace", dtype="uint8"), None, plenty) or "")
    assert skip_reason(case("numpy-table"), None, plenty) == "it is for uint8 only"
    assert skip_reason(case(device="gpu"), "no device", plenty) == "no device"
    only_last = replace(registry.variants["tf", "numpy-out"], layouts=("channels_last",))
    first = replace(case(layout="channels_first"), variant=only_last)
    assert skip_reason(first, None, plenty) == "it is for channels_last only"
    over = case("numpy-inplace")
    given = over.shape, np.dtype("float32")
    assert misfit(over, given, [given]) is None
    larger = [((32, 256, 256, 3), np.dtype("float32"))]
    said = "a 32×256×256×3 float32 result does not fit over a 32×224×224×3 float32 input"
    assert misfit(over, given, larger) == said
    assert misfit(case("numpy-out"), given, larger) is None


def test_a_missing_package_is_a_skip_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert skip_reason(case("cupy-out", device="gpu"), None, 2**40) == (
        "cupy is not installed: pip install -e '.[cupy]' in a clone of copycost"
    )


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"batches": (0,)}, "invalid batch 0"),
        ({"batches": (-3,)}, "invalid batch -3"),
        ({"batches": (10**9,)}, "1 to 65,536"),
        ({"sizes": ((0, 5),)}, "invalid size 0x5"),
        ({"sizes": ((5, 10**6),)}, "1 to 32,768"),
        ({"sizes": ((9, 3),), "layouts": ("channels_first",)}, "cannot be told"),
    ],
)
def test_absurd_axes_are_refused(axes: dict[str, object], message: str) -> None:
    good = {
        "recipes": ("tf",),
        "batches": (1,),
        "sizes": ((8, 8),),
        "dtypes": ("uint8",),
        "layouts": ("channels_last",),
    }
    with pytest.raises(CaseError, match=message):
        check_axes(Axes(**good | axes))  # type: ignore[arg-type]


def test_profiles_are_those_of_the_documentation() -> None:
    quick = expand(PROFILES["quick"].axes, registry.variants.values(), registry.recipes, only_devices=("cpu",))
    of_tf = {
        v.name
        for v in registry.variants.values()
        if v.recipe == "tf" and "cpu" in (v.devices or discovery.runtime(v.runtime).devices)
    }
    assert len(quick) == 3 * 2 * 2 * len(of_tf)
    assert {(c.batch, c.height, c.width) for c in quick} == {(1, 224, 224), (32, 224, 224)}
    assert PROFILES["full"].axes.dtypes == ("uint8", "float16", "float32", "float64")


def test_cpus_are_those_that_may_be_used() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert devices.cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_bytes_moved_are_those_of_the_result_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / "grey.py"
    path.write_text(
        "import numpy as np\n"
        "from copycost import recipe, variant\n"
        "@recipe(name='grey')\n"
        "def grey(x): return x.mean(axis=-1, keepdims=True)\n"
        "@variant(recipe='grey', runtime='numpy', writes='new')\n"
        "def mean(example): return lambda x: x.mean(axis=-1, keepdims=True)\n"
    )
    (m,) = measure(recipes=("grey",), files=(path,), blocks=1)
    assert m.status == "ok", m.reason
    assert m.bytes_moved == 64 * 48 * (3 + 1) * 4


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("x * 1j", "complex128"),
        ("None", "NoneType"),
        ("x[:0]", "an empty array"),
        ("x / 0", "not finite"),
        ("undefined", "raised NameError"),
    ],
)
def test_a_reference_that_is_none_fails_its_cases(tmp_path: Path, returned: str, reason: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(
        "from copycost import recipe, variant\n"
        f"@recipe(name='bad')\ndef bad(x): return {returned}\n"
        "@variant(recipe='bad', runtime='numpy', writes='new')\n"
        "def mine(example): return lambda x: x\n"
    )
    (m,) = measure(recipes=("bad",), files=(path,), blocks=1)
    assert m.status == "failed"
    assert (m.reason or "").startswith("the reference: ")
    assert reason in (m.reason or "")


def test_the_distance_in_ulp_is_a_number_in_float64_too() -> None:
    (m,) = measure(variants=("tf-xla",), dtypes=("float64",), blocks=1)
    assert m.max_ulp is not None
    assert m.max_ulp < float("inf")

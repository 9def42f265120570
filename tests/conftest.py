"""What the tests share: the command in a process, and a session on small images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from copycost.cases import images
from copycost.cases.case import Case
from copycost.cases.selection import select
from copycost.catalog import discovery
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.machine import devices
from copycost.model.measurement import Measurement

discovery.load_shipped()

# Where the tests run in the background of a shell, Ctrl-C is ignored by all that they start, unless it is not here.
signal.signal(signal.SIGINT, signal.default_int_handler)

# torch.compile builds its headers once, and not once for every session of the tests.
_COMPILED = tempfile.TemporaryDirectory(prefix="copycost-inductor-")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _COMPILED.name)

# What a developer's shell chooses of asv's cases is not what the tests are about.
for _name in [name for name in os.environ if name.startswith("COPYCOST_")]:
    del os.environ[_name]

# What an earlier test found is not what this one finds, and the user's own cache is left alone.
_CACHE = tempfile.TemporaryDirectory(prefix="copycost-cache-")
os.environ["COPYCOST_CACHE_DIR"] = _CACHE.name

# Tests that run side by side do not wait for each other: none of them is about a time.
os.environ["COPYCOST_LOCK_DIR"] = _CACHE.name

BAD = Path(__file__).with_name("bad_variants.py")


#: Files whose tests take a minute and more, the longest first: two workers then end at the same time.
LONGEST = (
    "test_documented_commands", "test_matrix", "test_fleet", "test_asv_run", "test_allocations", "test_claims",
    "test_cli", "test_session", "test_judge", "test_system_faults", "test_pipelines", "test_certify", "test_code",
    "test_docs", "test_faults", "test_gate", "test_damaged", "test_inputs", "test_lock", "test_bisect",
    "test_rounding", "test_pages", "test_python", "test_report",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; skip what needs a device, with the reason, where there is none."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    none = devices.gpus()[1]
    for item in items:
        if none and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=none))


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run the command in an empty folder and give what came of it."""

    def run(*args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "copycost", *map(str, args)],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "200"} | (env or {}),
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture
def flat(tmp_path: Path) -> images.Photographs:
    """A photograph of nothing: every pixel is the same."""
    path = tmp_path / "flat.png"
    Image.new("RGB", (300, 300), (77, 77, 77)).save(path)
    return images.read(path)


def measure(
    *,
    recipes: tuple[str, ...] = ("tf",),
    variants: tuple[str, ...] = (),
    batches: tuple[int | None, ...] = (1,),
    size: tuple[int, int] = (64, 48),
    dtypes: tuple[str, ...] = ("float32",),
    layouts: tuple[str, ...] = ("channels_last",),
    devices_: tuple[str, ...] = ("cpu",),
    files: tuple[Path, ...] = (),
    blocks: int = 3,
    budget: float = 1.0,
    timeout: float = 120.0,
    share: str = "shipped",
    image: images.Photographs | None = None,
    only: Callable[[Case], bool] = lambda case: True,
) -> Iterator[Measurement]:
    """Measure with as little timing as there can be, unless more is asked for."""
    cases = select(
        recipes=recipes, variants=variants, devices=devices_, batches=batches, sizes=(size,), dtypes=dtypes,
        layouts=layouts, files=files,
    )  # fmt: skip
    plan = Plan(devices.cpus(), blocks, budget, timeout, devices.gpus()[1], share)
    with Session(plan, image or images.read()) as session:
        yield from session.measure([case for case in cases if only(case)])


def by_variant(measurements: Iterable[Measurement]) -> dict[str, Measurement]:
    """Measurements by the names of their variants, of which each must be there once."""
    measurements = list(measurements)
    named = {m.variant: m for m in measurements}
    assert len(named) == len(measurements)
    return named


def read_json(text: str) -> dict[str, Any]:
    """The one JSON document that `text` is."""
    return json.loads(text)

"""Functions of image libraries (docs/examples/libraries.py): right, and counted as a second instrument counts them."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from copycost.catalog import import_context

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "libraries.py"

#: Calls each variant on an image, and prints the requests of a steady call by variant: the least of some calls, since
#: other threads may request memory too.
SCRIPT = """
import ctypes, gc, json, sys
import numpy as np
counter = ctypes.CDLL(None)
counter.count_requests.restype = counter.count_bytes.restype = ctypes.c_long
from copycost import registry
from copycost.catalog import discovery, loading
from copycost.model.source import Source
loading.load(Source(sys.argv[1]))
pixels = np.load(sys.argv[2])
found = {}
for (recipe, name), variant in registry.variants.items():
    runtime = discovery.runtime(variant.runtime)
    if runtime.name in ("torch", "tensorflow") and runtime.name not in found:
        runtime.start("cpu", 1)
        found[runtime.name] = None
    image = pixels if variant.layouts[0] == "channels_last" else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    prepared = [runtime.array(image.astype(variant.accepts[0]), variant.writes == "input") for _ in range(8)]
    call = variant.prepare(prepared[0])
    for x in prepared[:3]:
        call(x)
    gc.collect(), gc.disable()
    counts = []
    for x in prepared[3:]:
        counter.count_begin()
        result = call(x)
        counter.count_end()
        counts.append([counter.count_requests(), counter.count_bytes()])
        del result
    gc.enable()
    found[name] = min(counts)
print(json.dumps({name: counts for name, counts in found.items() if counts}))
"""


def variants() -> dict[str, ast.FunctionDef]:
    """The functions that the example registers as variants, by the variant's name."""
    functions = [node for node in ast.parse(EXAMPLE.read_text()).body if isinstance(node, ast.FunctionDef)]
    made = ("integers", "tensors", "flow")
    return {
        node.name.replace("_", "-"): node
        for node in functions
        if isinstance(call := node.decorator_list[0], ast.Call) and getattr(call.func, "id", "") in made
    }


def test_there_are_twenty_functions_of_at_most_eight_lines() -> None:
    found = variants()
    assert len(found) >= 20
    lines = {name: (node.end_lineno or 0) - node.decorator_list[0].lineno + 1 for name, node in found.items()}
    assert max(lines.values()) <= 8, lines


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The measurement of each variant, without timing."""
    for library in ("cv2", "skimage", "albumentations", "kornia", "einops", "tensorflow"):
        pytest.importorskip(library)
    folder = tmp_path_factory.mktemp("libraries")
    done = subprocess.run(
        [sys.executable, "-m", "copycost", "run", "--with", EXAMPLE, "--recipe", "lib-*", "--batch", "none",
         "--size", "224x224", "--blocks", "0", "--threads", "1", "--device", "cpu",
         "--layout", "channels_last", "--layout", "channels_first", "--out", "run",
         "--json", "run.json"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((folder / "run.json").read_text())["measurements"]
    return {row["variant"]: row for row in measured if row["status"] != "skipped"}


def environment() -> dict[str, str]:
    """Variables with which TensorFlow gets its memory from the C library, so that one instrument sees all of it."""
    return import_context.child_environment() | {"TF_ENABLE_ONEDNN_OPTS": "0", "NO_ALBUMENTATIONS_UPDATE": "1"}


@pytest.mark.slow
def test_every_function_is_right(rows: dict[str, dict[str, Any]]) -> None:
    assert {name: (row["status"], row.get("reason")) for name, row in rows.items()} == dict.fromkeys(
        variants(), ("ok", None)
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_second_instrument_counts_the_same(rows: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    import numpy as np

    library = tmp_path / "malloc_count.so"
    source = Path(__file__).with_name("malloc_count.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, EXAMPLE, tmp_path / "pixels.npy"],
        env=environment() | {"LD_PRELOAD": str(library)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    known = json.loads(done.stdout.splitlines()[-1])
    counted = {name: [row["allocations"], row["allocated_bytes"]] for name, row in rows.items()}
    assert counted == known

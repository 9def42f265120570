"""Step: what fails on a device ends one case, and a device that is missing is a line or a skip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from copycost.model.vocabulary import DeviceKind
from copycost.studies.certify.probes import plain_variant
from copycost.studies.certify.step import Each, Finding, Subject, step

_GREEDY = """
from copycost import variant
from copycost.catalog import discovery

@variant(recipe="tf", name="certify-greedy", runtime={runtime!r}, writes="new")
def greedy(example):
    device = discovery.runtime({runtime!r}).gpu
    return lambda x: device.read(1 << 50) or x
"""


@step(DeviceKind.GPU, seconds=90, each=Each.CLOCK)
def faults(subject: Subject) -> Iterator[Finding]:
    """Check that a case without memory fails alone, and that a missing device is reported without a traceback."""
    assert subject.runtime is not None
    other = plain_variant(subject.runtime).name
    with tempfile.TemporaryDirectory(prefix="copycost-") as folder:
        file = Path(folder, "certify_greedy.py")
        file.write_text(_GREEDY.format(runtime=subject.runtime))

        def run(*arguments: str, **environment: str) -> tuple[int, dict[str, Any], str]:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "copycost", "run", "--recipe", "tf", "--batch", "1", "--dtype", "float32",
                 "--blocks", "0", "--variant", other, "--out", f"{folder}/{len(os.listdir(folder))}", "--json", "-",
                 *arguments],
                capture_output=True, text=True, env=os.environ | environment,
            )  # fmt: skip
            rows = json.loads(done.stdout)["measurements"] if done.stdout.startswith("{") else []
            return done.returncode, {row["variant"]: [row["status"], row["reason"]] for row in rows}, done.stderr[-500:]

        status, seen, _ = run("--with", str(file), "--variant", "certify-greedy", "--device", "gpu")
        yield Finding(
            "a case that runs out of memory fails alone",
            status == 1 and [seen.get(name, [""])[0] for name in ("certify-greedy", other)] == ["failed", "ok"],
            {"exit_status": status, "cases": seen},
        )
        status, _, errors = run("--device", "gpu:4096")
        yield Finding(
            "a device that does not exist is reported in a line",
            status == 2 and "unknown device gpu:4096" in errors and "Traceback" not in errors,
            {"exit_status": status, "message": errors},
        )
        status, seen, _ = run("--device", "gpu", CUDA_VISIBLE_DEVICES="")
        yield Finding(
            "a hidden device is a skip",
            status == 0 and seen[other][0] == "skipped",
            {"exit_status": status, "cases": seen},
        )

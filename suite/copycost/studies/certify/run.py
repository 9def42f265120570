"""Certify a machine: run each step in a process of its own, with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import IO

from copycost.catalog import discovery, import_context
from copycost.machine import devices
from copycost.model.vocabulary import DeviceKind
from copycost.studies.certify import steps  # noqa: F401
from copycost.studies.certify.evidence import Row
from copycost.studies.certify.step import STEPS, Each, Step, Subject
from copycost_meter.errors import one_line

#: Statement of the last row of each step.
COMPLETED = "the step is completed"

#: Seconds for all steps: the command ends within ten minutes.
_SECONDS = 540.0

#: Seconds without which a step is not begun.
_FEWEST_SECONDS = 5.0


def plan(device: DeviceKind) -> list[tuple[Step, Subject]]:
    """Return the steps for a device, with their subjects, in order.

    If no runtime of the device is installed, the subject of a step that needs one has none, which is a fault.
    """
    runtimes = [
        runtime
        for runtime in map(discovery.runtime, discovery.runtimes())
        if device in runtime.devices and discovery.not_installed(runtime) is None
    ]
    own_clocks: dict[object, str] = {}
    for runtime in runtimes:
        if runtime.gpu is not None:
            own_clocks.setdefault(runtime.gpu.seconds, runtime.name)
    names: dict[Each, list[str | None]] = {
        Each.MACHINE: [None],
        Each.RUNTIME: [runtime.name for runtime in runtimes] or [None],
        Each.CLOCK: [*own_clocks.values()] or [None],
    }
    return [
        (step, Subject(device, name)) for step in STEPS.values() if device in step.devices for name in names[step.each]
    ]


def certify(
    device: DeviceKind, on_step: Callable[[Step, Subject], None] = lambda step, subject: None, seconds: float = _SECONDS
) -> Iterator[Row]:
    """Test every statement, and yield its row as soon as it is known.

    A statement that could not be tested does not hold: each step also has a row that says whether it was completed.

    Parameters
    ----------
    device : DeviceKind
    on_step : callable, optional
        Called with each step and its subject before it begins.
    seconds : float, optional
        Time limit for all steps.
    """
    end = monotonic() + seconds
    no_gpu = devices.gpus()[1] if device == DeviceKind.GPU else None
    for step, subject in plan(device):
        on_step(step, subject)
        limit = min(step.seconds, end - monotonic())
        if no_gpu:
            yield _not_completed(step, subject, no_gpu)
        elif step.each != Each.MACHINE and subject.runtime is None:
            yield _not_completed(step, subject, f"no runtime for the {device.upper()} is installed")
        elif limit < _FEWEST_SECONDS:
            yield _not_completed(step, subject, f"no time was left of {seconds:.0f} s")
        else:
            yield from run_step(step, subject, limit)


def _not_completed(step: Step, subject: Subject, reason: str, seconds: float = 0.0) -> Row:
    return Row(step.name, subject.runtime, COMPLETED, False, reason, {"seconds": seconds})


def run_step(step: Step, subject: Subject, limit: float) -> Iterator[Row]:
    """Run a step in a process of its own and yield its rows, the last of which says whether it was completed.

    Parameters
    ----------
    step : Step
    subject : Subject
    limit : float
        Time limit in seconds.
    """
    arguments = [str(os.getpid()), step.name, str(subject.device), *([subject.runtime] if subject.runtime else [])]
    start, reason, found, late = monotonic(), None, 0, threading.Event()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "copycost.studies.certify.look", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=import_context.child_environment(),
            start_new_session=True,  # Ctrl-C must reach only this process, which then ends the step
        )  # fmt: skip

        def stop() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(limit, stop)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                message = json.loads(line) if line.endswith("\n") else {}
                if "statement" in message:
                    found += 1
                    yield Row(
                        step.name, subject.runtime, message["statement"], message["holds"], None, message["figures"]
                    )
                reason = message.get("reason", reason)
            process.wait()
        finally:
            timer.cancel()
            _kill(process)
        seconds = round(monotonic() - start, 2)
        if late.is_set():
            reason = f"it took more than {limit:.0f} s"
        elif process.returncode:
            reason = f"its process ended with {process.returncode}: {_last_line(errors)}"
        elif not found and reason is None:
            reason = "it tested nothing"
    if reason is not None:
        yield _not_completed(step, subject, reason, seconds)
    else:
        yield Row(step.name, subject.runtime, COMPLETED, True, None, {"seconds": seconds})


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a step and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = errors.read()[-4096:].strip().splitlines()
    return one_line(lines[-1]) if lines else "it printed nothing"

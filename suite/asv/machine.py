"""The machine's record: asv's own, and the GPU, its driver, CUDA and the CPU's features beside it.

asv keeps records in ``~/.asv-machine.json``, copies them into every result, and makes a filter of each of their keys in
its pages.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from suite import devices, environment
from suite.results import RunError, replace

#: What stands where there is no such thing: a key that only some machines have would be no filter.
NONE = "none"


def record(name: str | None = None) -> dict[str, str]:
    """Write what asv is to know of this machine, and give it.

    Parameters
    ----------
    name : str, optional
        The default is the host's name.

    Raises
    ------
    RunError
        If asv or the file refuses.
    """
    command = [sys.executable, "-m", "asv", "machine", "--yes", "--machine", name or platform.node()]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"`asv machine` said: {' '.join((done.stdout + done.stderr).split())[-300:]}")
    path = Path("~/.asv-machine.json").expanduser()
    try:
        records = json.loads(path.read_text())
        mine = records[name or platform.node()]
        mine |= _more()
        replace(path, json.dumps(records, indent=4, sort_keys=True) + "\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no record of asv's: {type(error).__name__}") from None
    return mine


def _more() -> dict[str, str]:
    gpus, _ = devices.gpus()
    return {
        "cpu": f"{environment.processor() or 'not told'} ({devices.cpus()} CPUs)",
        "cpu_features": " ".join(environment.cpu_flags()) or NONE,
        "gpu": _several(gpu.name for gpu in gpus),
        "gpu_driver": _several(gpu.driver or "not told" for gpu in gpus),
        "cuda": (devices.cuda() or "not told") if gpus else NONE,
    }


def _several(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or NONE

"""Custom TensorFlow operation, built from source for the installed TensorFlow."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from copycost.machine.cache import cache
from copycost.model.runtime import RuntimeUnavailable

SOURCE = Path(__file__).with_name("add.cc")

#: Time limit for the compiler, in seconds.
_TIMEOUT = 120


def library() -> Path:
    """Return the shared library with the operation ``CopycostAdd``, and build it on first use.

    Raises
    ------
    RuntimeUnavailable
        If there is no C++ compiler, or the compiler cannot build the operation.
    """
    import tensorflow as tf

    name = os.environ.get("CXX", "g++")
    compiler = shutil.which(name)
    if compiler is None:
        raise RuntimeUnavailable(f"C++ compiler {name} not found: apt install g++, or name another in CXX")
    flags = ["-O3", "-shared", "-fPIC", *tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    key = "\0".join([SOURCE.read_text(), tf.version.GIT_VERSION, tf.__version__, compiler, *flags])
    target = cache() / "operations" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Build in a temporary folder and move the complete file: two processes may build at the same time.
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            part = Path(folder, target.name)
            try:
                process = subprocess.run(
                    [compiler, *flags[:3], str(SOURCE), *flags[3:], "-o", str(part)],
                    capture_output=True, text=True, timeout=_TIMEOUT,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise RuntimeUnavailable(f"{name} was still building the operation after {_TIMEOUT} s") from None
            if process.returncode:
                error = next((line for line in process.stderr.splitlines() if "error:" in line), process.stderr[-200:])
                raise RuntimeUnavailable(f"{name} cannot build the operation: {error.strip()}")
            part.replace(target)
    return target

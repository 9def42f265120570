"""Which process is the parent of another."""

from __future__ import annotations

import os
import subprocess
import sys

from copycost.machine.parent import parent_of


def test_the_parent_of_a_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert parent_of(process.pid) == os.getpid()
        process.communicate(b"\n")
    assert parent_of(os.getpid()) == os.getppid()


def test_a_process_that_does_not_exist_has_none() -> None:
    assert parent_of(2**30) is None

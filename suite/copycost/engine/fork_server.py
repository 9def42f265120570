"""Fork server: a process that has imported a runtime, touched no device, and forks a worker for each job.

Importing TensorFlow takes seconds. Forking a process that has imported it takes a few milliseconds. The fork server
initialises nothing before the fork: a device's context or a pool of threads would not work in the worker. Importing a
user's file may initialise such things. In this case the number of threads has changed. Every job then gets a separate
process, which repeats the imports and serves the job itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

from copycost.catalog import discovery, loading
from copycost.engine import messages

# Imported once, before the fork, and not in every worker.
from copycost.engine.passes import allocations, audit, call_profile, device_timing, timing  # noqa: F401
from copycost.engine.worker_main import serve
from copycost.machine.parent import die_with_parent
from copycost.model.source import Source
from copycost_meter.errors import describe

_NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED in cuda.h


def main(control_fd: int, runtime: str, source: Source, preload: Sequence[str] = ()) -> None:
    """Import all that is needed, then serve ``"fork"`` and ``("reap", pid)`` until the connection is closed."""
    control = socket.socket(fileno=control_fd)
    connection = Connection(os.dup(control_fd))
    try:
        # Keras imports pandas if it is installed, and pandas tries pyarrow, which starts threads when imported.
        sys.modules["pyarrow"] = None  # type: ignore[assignment]
        discovery.load_shipped()
        for package in discovery.runtime(runtime).packages:
            importlib.import_module(package)
        if importlib.util.find_spec("memray"):
            importlib.import_module("memray")
        del sys.modules["pyarrow"]
        threads = _threads()
        for package in preload:
            with contextlib.suppress(Exception):  # the job that needs it says why it cannot be imported
                importlib.import_module(package)
        if preload and (_threads() != threads or cuda_is_initialised()):  # a fork would lack what these have started
            command = [sys.executable, "-P", "-m", "copycost.engine.fork_server"]
            os.execv(sys.executable, [*command, str(control_fd), runtime, source.name])
        if not source.is_shipped:  # built-in sources are already registered
            loading.load(source)
    except BaseException as exception:  # a user's file may raise anything
        connection.send_bytes(messages.encode(("failed", f"importing for {runtime}: {describe(exception)}")))
        return
    forkable = _threads() == threads and not cuda_is_initialised()
    gc.collect()
    gc.freeze()  # so that a worker's collector does not write to the pages that it shares with this process
    connection.send_bytes(messages.encode(("ok", forkable)))
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if request == "fork":
            _, fds, _, _ = socket.recv_fds(control, 1, 2)
            if not forkable:
                connection.send_bytes(messages.encode(os.getpid()))
                _become_worker(*fds)
                return
            pid = os.fork()
            if pid == 0:
                try:
                    connection.close()
                    control.close()
                    _become_worker(*fds)
                finally:
                    os._exit(0)
            for fd in fds:
                os.close(fd)
            connection.send_bytes(messages.encode(pid))
        else:
            _, pid = request
            connection.send_bytes(messages.encode(os.waitpid(pid, 0)[1]))


def _become_worker(connection_fd: int, stderr_fd: int) -> None:
    """Serve one job in this process, in a separate process group, and die with the parent."""
    with contextlib.suppress(OSError):  # a process that was not forked already is a group leader
        os.setpgid(0, 0)
    die_with_parent()
    os.dup2(stderr_fd, 2)
    os.close(stderr_fd)
    serve(Connection(connection_fd))


def cuda_is_initialised() -> bool:
    """Return whether this process has initialised CUDA, which does not work in a fork.

    A user's file may have asked whether there is a device. CUDA has then opened it, or the driver's library, which a
    runtime may load without using it, answers a question instead of saying that it is not initialised.
    """
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/nvidia"):
                return True
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "/libcuda.so" in line}
    return any(ctypes.CDLL(path).cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != _NOT_INITIALIZED for path in paths)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Source(sys.argv[3]), sys.argv[4:])

"""The session's side of its processes: fork_servers, and the children they fork."""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from copycost.model.errors import one_line

#: How long a runtime and a user's file may take to import, in seconds.
_IMPORT_TIMEOUT = 300

#: Bytes of an answer at most; a longer one is no answer.
_LONGEST_ANSWER = 1 << 20


class CaseFailure(Exception):
    """A child did not give what it was asked for; `status` and `reason` are those of its case."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class ForkServer:
    """A process that has imported a runtime (and a user's file), and forks a child for every block.

    Parameters
    ----------
    runtime, source : str
    environment : dict
        Of the process.
    python : str, optional
        Its interpreter; the default is this one.
    folder : str, optional
        In which it runs; the default is this one.
    """

    def __init__(
        self,
        runtime: str,
        source: str,
        environment: dict[str, str],
        python: str = sys.executable,
        folder: str | None = None,
    ) -> None:
        self.runtime, self.source, self.environment = runtime, source, environment
        self.python, self.folder = python, folder
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [self.python, "-P", "-m", "copycost.engine.fork_server", str(theirs.fileno()), self.runtime, self.source],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is for the session, which then ends its children
            env=self.environment,
            cwd=self.folder,
        )
        theirs.close()
        self._control = ours
        self._messages = Connection(os.dup(ours.fileno()))
        self.imported = False
        self.forkable = True
        self._failure: CaseFailure | None = None

    def ready(self) -> None:
        """Wait until all is imported.

        Raises
        ------
        CaseFailure
        """
        if self.imported:
            return
        if self._failure is None:
            try:
                self._wait()
                return
            except CaseFailure as failure:
                self._failure = failure
        raise CaseFailure(self._failure.status, self._failure.reason)

    def _wait(self) -> None:
        try:
            if not self._messages.poll(_IMPORT_TIMEOUT):
                self.process.kill()
                raise CaseFailure("timeout", f"importing for {self.runtime} took over {_IMPORT_TIMEOUT} s")
            status, value = self._messages.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            raise CaseFailure("crashed", f"importing for {self.runtime}: {_ending(code)}") from None
        if status != "ok":
            raise CaseFailure("failed", value)
        self.forkable, self.imported = value, True

    def child(self) -> Worker:
        """Start a child.

        Raises
        ------
        CaseFailure
        """
        if not self.forkable:
            # It can serve one block, itself.
            alone = ForkServer(self.runtime, self.source, self.environment, self.python, self.folder)
            alone.ready()
            return alone._child()
        with self._lock:
            self.ready()
        return self.child() if not self.forkable else self._child()

    def _child(self) -> Worker:
        ours, theirs = socket.socketpair()
        # Half an answer is none: what has begun to arrive arrives at once.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))
        stderr_read, stderr_write = os.pipe()
        try:
            with self._lock:
                try:
                    self._messages.send("fork")
                    socket.send_fds(self._control, [b"f"], [theirs.fileno(), stderr_write])
                    pid = self._messages.recv()
                except (EOFError, OSError):
                    raise CaseFailure("crashed", f"the process for {self.runtime} has ended") from None
        finally:
            theirs.close()
            os.close(stderr_write)
        return Worker(self, pid, Connection(ours.detach()), stderr_read)

    def reap(self, pid: int) -> int:
        """Wait for a child that has ended or was killed; its exit status as `subprocess` gives it."""
        if not self.forkable:
            return self.process.wait()
        with self._lock:
            try:
                self._messages.send(("reap", pid))
                return os.waitstatus_to_exitcode(self._messages.recv())
            except (EOFError, OSError):
                return self.process.wait()

    @property
    def killed(self) -> bool:
        """Whether the process has ended after it had imported all: a child of its has killed it."""
        return self.imported and self.forkable and self.process.poll() is not None

    def close(self) -> None:
        """End the process and all it has forked."""
        self._messages.close()
        self._control.close()
        self.process.kill()
        self.process.wait()


class Worker:
    """A process that serves one block, and what it wrote to stderr last."""

    def __init__(self, fork_server: ForkServer, pid: int, connection: Connection, stderr: int) -> None:
        self.fork_server, self.pid, self.connection, self._stderr_fd = fork_server, pid, connection, stderr
        self._stderr = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._selector.register(stderr, selectors.EVENT_READ)
        self._pidfd: int | None = None
        with contextlib.suppress(OSError):  # it tells of an end that a grandchild, which holds the socket, hides
            self._pidfd = os.pidfd_open(pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ)
        self._open = True

    def ask(self, *request: Any, timeout: float) -> tuple[Any, float]:
        """The answer to a request, and the seconds that the child spent on it.

        Raises
        ------
        CaseFailure
            If it raised, died, or had not answered after `timeout` seconds. The child has then ended.
        """
        deadline = monotonic() + timeout
        try:
            self.connection.send(request)
            while not self.connection.poll(0):
                left = deadline - monotonic()
                if left <= 0:
                    self.close()
                    raise CaseFailure("timeout", "did not answer")
                ready = {key.fileobj for key, _ in self._selector.select(left)}
                if self._stderr_fd in ready:
                    self._read_stderr()
                if self._pidfd in ready and not self.connection.poll(0):
                    raise EOFError
            status, value, seconds = pickle.loads(self.connection.recv_bytes(_LONGEST_ANSWER))
        except (EOFError, OSError):
            code = self.close()
            said = self._stderr.decode(errors="replace").split("\n")
            last = next((one_line(line)[:200] for line in reversed(said) if line.strip()), "")
            raise CaseFailure("crashed", _ending(code) + (f": {last}" if last else "")) from None
        except CaseFailure:
            raise
        except Exception:  # not a message: something else wrote to the connection
            self.close()
            raise CaseFailure("crashed", "its answer could not be read") from None
        if status != "ok":
            self.close()
            raise CaseFailure(status, value)
        return value, seconds

    def kill(self) -> None:
        """Begin to end the process and all it has started."""
        if self._open:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)

    def close(self) -> int | None:
        """End the process and all it has started; its exit status, None if it was closed before."""
        if not self._open:
            return None
        self.kill()
        self._open = False
        self.connection.close()
        code = self.fork_server.reap(self.pid)
        os.set_blocking(self._stderr_fd, False)
        with contextlib.suppress(OSError):
            self._read_stderr()
        self._selector.close()
        os.close(self._stderr_fd)
        if self._pidfd is not None:
            os.close(self._pidfd)
        if not self.fork_server.forkable:
            self.fork_server.close()
        return code

    def _read_stderr(self) -> None:
        data = os.read(self._stderr_fd, 65536)
        self._stderr = (self._stderr + data)[-4096:]
        if not data and self._stderr_fd in self._selector.get_map():
            self._selector.unregister(self._stderr_fd)


def _ending(code: int | None) -> str:
    if code is None:
        return "its process has ended"
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process ended with status {code}"

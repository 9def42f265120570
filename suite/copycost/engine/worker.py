"""The session's side of its processes: fork servers and the workers that they fork."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, get_type_hints

from copycost.engine import messages
from copycost.machine.confine import launcher
from copycost.machine.parent import parent_of
from copycost.model.source import Source
from copycost_meter.errors import one_line

#: Timeout for importing a runtime and a user's file, in seconds.
_IMPORT_TIMEOUT = 300

#: Maximum length of an answer in bytes. A longer one is not accepted.
_LONGEST_ANSWER = 1 << 20


#: Answer of a worker that cannot do what it was asked.
_Failed = tuple[Literal["skipped", "wrong", "failed"], str, float]


P = ParamSpec("P")
R = TypeVar("R")


class Job(Protocol):
    """A picklable job. The worker calls `start`, and passes the returned server to the requested functions."""

    def start(self) -> object:
        """Do the job, or prepare it and return the server of later requests."""


class CaseFailure(Exception):
    """Raised if an import, a worker or a request fails; `status` and `reason` are those of its case.

    ``shared`` is True if the worker also serves other cases, which may be the cause of the failure.
    """

    def __init__(self, status: str, reason: str, shared: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.shared = shared


class ForkServer:
    """A process that has imported a runtime (and a user's file), and forks a worker for every job.

    Parameters
    ----------
    runtime : str
    source : Source
    environment : dict
        Environment variables of the process.
    python : str, optional
        Path of its interpreter. The default is the current interpreter.
    folder : str, optional
        Its working directory. The default is the current one.
    preload : sequence of str, optional
        Packages that the jobs will import, so that it imports them once.
    confined : str, optional
        Folder to whose files the process and its workers are confined: see `copycost.machine.confine`.
    """

    def __init__(
        self,
        runtime: str,
        source: Source,
        environment: dict[str, str],
        python: str = sys.executable,
        folder: str | None = None,
        preload: Sequence[str] = (),
        confined: str | None = None,
    ) -> None:
        self.runtime, self.source, self.environment = runtime, source, environment
        self.python, self.folder, self.preload, self.confined = python, folder, preload, confined
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        parent, child = socket.socketpair()
        self.process = subprocess.Popen(
            [
                self.python,
                "-P",
                *launcher(self.confined),
                "copycost.engine.fork_server",
                str(child.fileno()),
                self.runtime,
                self.source.name,
                *self.preload,
            ],
            pass_fds=[child.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach only the session, which then ends its workers
            env=self.environment,
            cwd=self.folder,
        )
        child.close()
        self._control = parent
        self._messages = Connection(os.dup(parent.fileno()))
        self.imported = False
        self.forkable = True
        self._failure: CaseFailure | None = None

    def ready(self) -> None:
        """Wait until the process has imported everything.

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
            status, value = self._receive(tuple[str, str | bool])
        except (EOFError, OSError, messages.MessageError):
            code = self.process.wait()
            raise CaseFailure("crashed", f"importing for {self.runtime}: {_ending(code)}") from None
        if status != "ok":
            raise CaseFailure("failed", str(value))
        self.forkable, self.imported = value is True, True

    def _receive(self, expected: Any) -> Any:
        """Return the process's next message, which is of the expected type."""
        return messages.decode(self._messages.recv_bytes(_LONGEST_ANSWER), expected)

    def fork(self) -> Worker:
        """Start a worker.

        Raises
        ------
        CaseFailure
        """
        if not self.forkable:
            # A process that cannot fork serves a single job itself, so start another one.
            fork_server = ForkServer(
                self.runtime, self.source, self.environment, self.python, self.folder, self.preload, self.confined
            )
            fork_server.ready()
            return fork_server._fork()
        with self._lock:
            self.ready()
        return self.fork() if not self.forkable else self._fork()

    def _fork(self) -> Worker:
        parent, child = socket.socketpair()
        # The rest of an answer follows its beginning at once: a read that stalls for 10 s is an error.
        parent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))
        stderr_read, stderr_write = os.pipe()
        try:
            with self._lock:
                try:
                    self._messages.send("fork")
                    socket.send_fds(self._control, [b"f"], [child.fileno(), stderr_write])
                    pid = self._receive(int)
                except (EOFError, OSError, messages.MessageError):
                    raise CaseFailure("crashed", f"the process for {self.runtime} has ended") from None
        finally:
            child.close()
            os.close(stderr_write)
        if not self._has_started(pid):
            raise CaseFailure("crashed", f"the process for {self.runtime} has answered with a wrong process id")
        return Worker(self, pid, Connection(parent.detach()), stderr_read)

    def _has_started(self, pid: int) -> bool:
        """Return whether a process is this one, or a child of it: any other would be killed in place of a worker."""
        return pid == self.process.pid or (self.forkable and parent_of(pid) == self.process.pid)

    def reap(self, pid: int) -> int:
        """Wait for a worker that has ended or was killed, and return its exit status as `subprocess` defines it."""
        if not self.forkable:
            return self.process.wait()
        with self._lock:
            try:
                self._messages.send(("reap", pid))
                return os.waitstatus_to_exitcode(self._receive(int))
            except (EOFError, OSError, ValueError, OverflowError):
                return self.process.wait()

    @property
    def killed(self) -> bool:
        """Whether a worker has killed the process: it has ended after importing everything."""
        return self.imported and self.forkable and self.process.poll() is not None

    def close(self) -> None:
        """End the process and all workers that it has forked."""
        self._messages.close()
        self._control.close()
        self.process.kill()
        self.process.wait()


class Worker:
    """A process that serves one job, or several if it is shared, and the end of its stderr output."""

    def __init__(self, fork_server: ForkServer, pid: int, connection: Connection, stderr: int) -> None:
        self.fork_server, self.pid, self.connection, self._stderr_fd = fork_server, pid, connection, stderr
        self.shared = False
        self.turn = threading.Lock()  # of the threads that send requests
        self._stderr = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._selector.register(stderr, selectors.EVENT_READ)
        self._pidfd: int | None = None
        with contextlib.suppress(OSError, OverflowError):  # detects an exit even if a grandchild keeps the socket open
            self._pidfd = os.pidfd_open(pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ)
        self._open = True

    def open(self, job: Job, timeout: float, number: int = 0) -> float:
        """Start a job, whose server then answers requests; return the seconds that it took.

        Parameters
        ----------
        job : Job
        timeout : float
            Seconds.
        number : int, optional
            The job's number in later requests, if the worker is shared.

        Raises
        ------
        CaseFailure
            As `ask`.
        """
        _, seconds = self._exchange((number, job), timeout, None)
        return seconds

    def ask(
        self, timeout: float, method: Callable[Concatenate[Any, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, float]:
        """Call a function of the only job's server in the worker; return its result and the seconds that it took.

        Parameters
        ----------
        timeout : float
            Seconds.
        method : callable
            A function whose first argument is the server, such as `copycost.engine.passes.audit.audit`.
        *args, **kwargs
            Its other arguments.

        Raises
        ------
        CaseFailure
            If the worker raised, died, or did not answer within `timeout` seconds. The worker has then ended, unless it
            is shared and only raised.
        """
        return self.ask_job(0, timeout, method, *args, **kwargs)

    def ask_job(
        self,
        number: int | tuple[int, ...],
        timeout: float,
        method: Callable[Concatenate[Any, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[R, float]:
        """Call a function of the server of a job, or of a list of the servers of several; as `ask`."""
        return self._exchange((number, (method, args, kwargs)), timeout, get_type_hints(method)["return"])

    def _exchange(self, request: Any, timeout: float, expected: Any) -> tuple[Any, float]:
        """Send a request, and return the value of the answer, which is of the expected type, and its seconds."""
        deadline = monotonic() + timeout
        if not self._open:  # it ended while it served another job
            raise CaseFailure("crashed", "its process has ended", self.shared)
        try:
            self.connection.send(request)
            while not self.connection.poll(0):
                seconds_left = deadline - monotonic()
                if seconds_left <= 0:
                    self.close()
                    raise CaseFailure("timeout", "did not answer", self.shared)
                readable = {key.fileobj for key, _ in self._selector.select(seconds_left)}
                if self._stderr_fd in readable:
                    self._read_stderr()
                if self._pidfd in readable and not self.connection.poll(0):
                    raise EOFError
            answer = self.connection.recv_bytes(_LONGEST_ANSWER)
            status, value, seconds = messages.decode(answer, tuple[Literal["ok"], expected, float] | _Failed)
        except (EOFError, OSError):
            code = self.close()
            lines = self._stderr.decode(errors="replace").split("\n")
            last_line = next((one_line(line)[:200] for line in reversed(lines) if line.strip()), "")
            raise CaseFailure("crashed", _ending(code) + (f": {last_line}" if last_line else ""), self.shared) from None
        except CaseFailure:
            raise
        except messages.MessageError:  # something else wrote to the connection
            self.close()
            raise CaseFailure("crashed", "its answer could not be read", self.shared) from None
        if status != "ok":
            if not self.shared:
                self.close()
            raise CaseFailure(status, value, self.shared)
        return value, seconds

    def kill(self) -> None:
        """Kill the process and everything that it has started, without waiting."""
        if self._open:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)

    def close(self) -> int | None:
        """End the process and everything that it has started; return its exit status, or None if already closed."""
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
    if -code in set(signal.Signals):
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process ended with status {code}"

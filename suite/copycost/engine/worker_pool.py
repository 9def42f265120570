"""The processes of a session: fork servers, workers, and the threads that wait for their answers."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

from copycost.catalog import import_context
from copycost.engine.case_state import CaseState
from copycost.engine.records import Sample
from copycost.engine.shared_folder import new_folder
from copycost.engine.time_account import TimeAccount
from copycost.engine.worker import CaseFailure, ForkServer, Job, Worker
from copycost.model.source import Source

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Maximum number of parallel processes while nothing is timed.
_PARALLEL = 4

#: Environment variables that set the number of threads of a library.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # JAX: number of XLA's threads on the CPU
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


#: Source of a fork server that imports only what ships with copycost, which all shipped variants share.
_SHIPPED = Source("copycost")


@dataclass(frozen=True)
class OpenJob:
    """A job that a worker has started, and its number among the worker's jobs."""

    worker: Worker
    number: int


class WorkerPool:
    """Fork servers and workers, with the time that they take.

    Parameters
    ----------
    threads : int
        Number of threads of every runtime.
    time_account : TimeAccount
    places : mapping of Source to ImportContext
        Import contexts of user files. A worker imports such a file itself, after the fork, so that the workers of two
        commits come from the same fork server.
    preload : sequence of str, optional
        Packages that all these files import, which the fork server then imports.
    confined : str, optional
        Folder to whose files all processes are confined: see `copycost.machine.confine`.
    """

    def __init__(
        self,
        threads: int,
        time_account: TimeAccount,
        places: Mapping[Source, import_context.ImportContext],
        preload: Sequence[str] = (),
        confined: str | None = None,
    ) -> None:
        self.time_account, self.places, self.preload, self.confined = time_account, places, preload, confined
        self._environment = import_context.child_environment() | dict.fromkeys(_THREAD_VARIABLES, str(threads))
        # TensorFlow's startup messages must not be reported as the error of a case.
        self._environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # The pool's own folder removes the temporary files that killed workers leave behind.
        self._scratch = new_folder(tempfile.gettempdir())
        self._environment["TMPDIR"] = str(self._scratch)
        self.parallel = max(1, min(_PARALLEL, len(os.sched_getaffinity(0))))
        # Use one pool of threads for the whole session: a process may die with the thread that has started it.
        self._threads = ThreadPoolExecutor(self.parallel)
        self._futures: list[Future[Any]] = []
        self._fork_servers: dict[tuple[str, Source, str], ForkServer] = {}
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()  # guards the fork servers, which threads request
        self._closed = False

    def close(self) -> None:
        """End every process."""
        # Kill first: a thread that waits for an answer then fails and ends.
        with self._lock:
            self._closed = True
        for fork_server in self._fork_servers.values():
            fork_server.process.kill()
        for worker in list(self._workers):
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in list(self._workers):
            self.close_worker(worker)
        for fork_server in self._fork_servers.values():
            fork_server.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def import_all(self, sources: Iterable[tuple[str, Source]]) -> None:
        """Import runtimes and sources in parallel. A failed import fails again for its cases."""
        for runtime, source in sources:
            self._fork_server(runtime, source)
        for fork_server in self._fork_servers.values():
            try:
                fork_server.ready()
            except CaseFailure:
                continue

    def _fork_server(self, runtime: str, source: Source) -> ForkServer:
        place = self.places.get(source)
        # All built-in sources of a runtime share one fork server, which imports all their modules at once.
        key = (
            runtime,
            _SHIPPED if place or source.is_shipped else source,
            place.python if place else sys.executable,
        )
        with self._lock:
            if self._closed:
                raise CaseFailure("failed", "the session has ended")
            if key in self._fork_servers and self._fork_servers[key].killed:
                self._fork_servers.pop(key).close()  # a variant has killed it: start a new one
            if key not in self._fork_servers:
                # With import contexts, the current folder belongs to none of them: run in the scratch folder.
                folder = str(self._scratch) if self.places else None
                environment = self._environment
                if place and place.engine:
                    environment = environment | {"PYTHONPATH": import_context.child_environment(place)["PYTHONPATH"]}
                preload = self.preload if place else ()
                self._fork_servers[key] = ForkServer(
                    runtime, key[1], environment, key[2], folder, preload, self.confined
                )
            return self._fork_servers[key]

    def worker(self, runtime: str, source: Source, shared: bool = False) -> Worker:
        """Start a worker, for one job or for several.

        Raises
        ------
        CaseFailure
            If the runtime or the source cannot be imported.
        """
        worker = self._fork_server(runtime, source).fork()
        worker.shared = shared
        self._workers.add(worker)
        return worker

    def close_worker(self, worker: Worker) -> None:
        """End a worker."""
        worker.close()
        self._workers.discard(worker)

    def open(self, state: CaseState, worker: Worker, job: Job, number: int = 0) -> OpenJob:
        """Start a case's job in a worker, with a number of its own in a shared one; as `ask`."""
        self._send(state, worker, "compile and start", lambda timeout: (None, worker.open(job, timeout, number)))
        return OpenJob(worker, number)

    def ask(
        self,
        state: CaseState,
        job: OpenJob,
        category: str,
        method: Callable[Concatenate[Any, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Send a request to a case's worker, and charge the case's timeout and the time account.

        Parameters
        ----------
        state : CaseState
        job : OpenJob
            Its worker is closed if the request fails, unless the worker is shared and only raised.
        category : str
            Category of the time account.
        method, *args, **kwargs
            See `Worker.ask`.

        Raises
        ------
        CaseFailure
        """
        return self._send(
            state,
            job.worker,
            category,
            lambda timeout: job.worker.ask_job(job.number, timeout, method, *args, **kwargs),
        )

    def ask_together(
        self,
        states: Sequence[CaseState],
        jobs: Sequence[OpenJob],
        category: str,
        method: Callable[[Sequence[Any]], list[R]],
    ) -> list[R]:
        """Send one request about several cases, whose jobs one worker serves, and charge each an equal part of it.

        Parameters
        ----------
        states, jobs : sequence
            The jobs of the cases, in the same order.
        category : str
            Category of the time account.
        method : callable
            A function of the list of their servers that returns a list with an answer for each.

        Raises
        ------
        CaseFailure
        """
        worker, numbers = jobs[0].worker, tuple(job.number for job in jobs)
        joint_state = replace(states[0], seconds_left=min(state.seconds_left for state in states) * len(states))
        seconds_left = joint_state.seconds_left
        try:
            return self._send(joint_state, worker, category, lambda timeout: worker.ask_job(numbers, timeout, method))
        finally:
            for state in states:
                state.seconds_left -= (seconds_left - joint_state.seconds_left) / len(states)

    def _send(self, state: CaseState, worker: Worker, category: str, request: Callable[[float], tuple[R, float]]) -> R:
        with worker.turn:  # waiting for the worker's other jobs is not charged
            start = monotonic()
            try:
                value, seconds = request(state.seconds_left)
            except CaseFailure as failure:
                if not worker.shared:
                    self.close_worker(worker)
                self.time_account.busy(category, monotonic() - start)
                if failure.status == "timeout":
                    failure.reason = f"took more than {state.timeout:.3g} s ({category})"
                raise
            finally:
                state.seconds_left = max(0.0, state.seconds_left - (monotonic() - start))
        if category == "timed calls" and isinstance(value, Sample):
            self.time_account.busy("reset", value.reset_seconds)
            self.time_account.busy("timed calls", value.seconds * value.calls)
            self.time_account.busy("warm-up", max(0.0, seconds - value.reset_seconds - value.seconds * value.calls))
        else:
            self.time_account.busy(category, seconds)
        return value

    def each(self, function: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
        """Map a function over items, in parallel: at most `at_once`, `_PARALLEL` and the number of cores at a time."""
        if min(at_once, self.parallel) == 1:
            return [function(item) for item in items]
        limit = threading.Semaphore(at_once)

        def call(item: T) -> R:
            with limit:
                return function(item)

        futures = [self._threads.submit(call, item) for item in items]
        self._futures = list(futures)
        return [future.result() for future in futures]

    def abandon(self) -> None:
        """Cancel the requests that threads wait for, and kill all workers."""
        for future in self._futures:
            future.cancel()
        for worker in list(self._workers):
            worker.kill()
        wait(self._futures)

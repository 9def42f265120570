"""Hold a lock of this machine while something is timed, so that no two measurements disturb each other.

The lock is an advisory one (``flock``), which the system frees when its holder ends, however it ends. Work on a GPU
holds the lock of that GPU, and shares that of the machine with work on other GPUs, which keeps timing on the CPU out.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from copycost.machine.parent import ancestors, identity
from copycost_meter.errors import one_line

#: Seconds between two attempts to take a lock.
_PAUSE = 0.1

#: Where the lock files are, in place of the system's folder for them: containers of one host need a common one.
FOLDER = "COPYCOST_LOCK_DIR"


class LockError(Exception):
    """Raised if the lock of this machine is not free in time. The message is one line."""


@contextmanager
def held(gpus: Sequence[str] = (), wait: float | None = math.inf) -> Iterator[float]:
    """Hold the lock of this machine, or those of some of its GPUs, for the duration of a context.

    Who holds it is printed on standard error, if it must be waited for. Nothing is taken if an ancestor of this
    process, or the process itself, holds the lock already: it holds it for its children too.

    Parameters
    ----------
    gpus : sequence of str, optional
        UUIDs of the GPUs that are used. By default, the CPU is timed.
    wait : float or None, optional
        Seconds to wait for the lock. None does not take it.

    Yields
    ------
    float
        Seconds that were spent with waiting.

    Raises
    ------
    LockError
        If it is not free within `wait` seconds, or if its file cannot be used.
    """
    start = time.monotonic()
    with ExitStack() as stack:
        if wait is not None:
            for path, is_exclusive in _files(gpus):
                file = stack.enter_context(_opened(path))
                if _take(file, is_exclusive, start + wait) and is_exclusive:
                    _write_holder(file)
                    stack.callback(_forget_holder, file)
        yield time.monotonic() - start


def take_for_good(wait: float) -> None:
    """Take the lock of this machine until this process ends, also if it goes on as another program; as `held`."""
    with _opened(_path(_boot())) as file:
        if _take(file, True, time.monotonic() + wait):
            _write_holder(file)
            os.set_inheritable(os.dup(file.fileno()), True)  # this copy is never closed


def holder() -> str | None:
    """Return who holds the lock of this machine, in words, or None if it is free."""
    path = _path(_boot())
    if not path.exists():
        return None
    with _opened(path) as file:
        return None if _try(file, True) else _named(file)


def _files(gpus: Sequence[str]) -> list[tuple[Path, bool]]:
    """Return the lock files, in the order in which they are taken, and whether this process must be the only holder."""
    return [(_path(_boot()), not gpus), *((_path(gpu), True) for gpu in sorted(gpus))]


def _path(name: str) -> Path:
    folder = os.environ.get(FOLDER)
    if folder is None:  # the same one for all users, whatever their temporary folder
        folder = "/run/lock" if os.path.isdir("/run/lock") and os.stat("/run/lock").st_mode & stat.S_IWOTH else "/tmp"
    return Path(folder, f"copycost-{name}.lock")


def _boot() -> str:
    """Return the id of this boot of the kernel, which tells the hosts of a common folder apart."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "host"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a lock file, which another user may have made."""
    file = _open(path)
    with file:
        yield file


def _open(path: Path) -> IO[bytes]:
    # A file of another user in a folder of all users must not be opened with O_CREAT (fs.protected_regular).
    for flags, mode in ((os.O_RDWR, "r+b"), (os.O_RDWR | os.O_CREAT, "r+b"), (os.O_RDONLY, "rb")):
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if flags != os.O_RDONLY and isinstance(error, FileNotFoundError | PermissionError):
                continue
            raise LockError(f"the lock {path} cannot be used: {error.strerror}") from None
        if flags & os.O_CREAT:
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o666)  # whatever the umask: other users take it too
        return os.fdopen(descriptor, mode, buffering=0)
    raise AssertionError  # unreachable: the last attempt returns or raises


def _take(file: IO[bytes], is_exclusive: bool, end: float) -> bool:
    """Take a lock; return whether it was taken, and not held by an ancestor."""
    is_first = True
    while not _try(file, is_exclusive):
        if _is_held_for_this(file):
            return False
        if time.monotonic() >= end:
            raise LockError(f"this machine is locked by {_named(file)}, which times something")
        if is_first:
            holder = _named(file)
            print(
                f"Waiting until nothing else is timed here: the lock is held by {holder}.", file=sys.stderr, flush=True
            )
            is_first = False
        time.sleep(_PAUSE)
    return True


def _try(file: IO[bytes], is_exclusive: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(file: IO[bytes]) -> None:
    if file.writable():
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {identity(os.getpid())}\n{command}\n".encode(errors="replace")[:4096])


def _forget_holder(file: IO[bytes]) -> None:
    if file.writable():
        file.truncate(0)


def _read_holder(file: IO[bytes]) -> tuple[str, str, str]:
    """Return process id, identity and command of the holder; empty if it has not written them."""
    file.seek(0)
    first, _, command = file.read(4096).decode(errors="replace").partition("\n")
    pid, _, its_identity = first.partition(" ")
    return pid, its_identity, command.strip()


def _is_held_for_this(file: IO[bytes]) -> bool:
    pid, its_identity, _ = _read_holder(file)
    return any((str(own), identity(own)) == (pid, its_identity) for own in ancestors())


def _named(file: IO[bytes]) -> str:
    pid, its_identity, command = _read_holder(file)
    if not pid.isdigit():
        return "another process"
    has_ended = identity(int(pid)) != its_identity
    return f"process {pid}{', which has ended, or its children' if has_ended else ''} ({one_line(command)[:200]})"

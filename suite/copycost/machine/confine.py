"""Take the network, and files outside of the temporary folder, away from this process and those that it starts.

Linux lets any process give up rights: the network by a namespace of its own (``unshare``), and the right to change
files by Landlock (https://docs.kernel.org/userspace-api/landlock.html). A system may forbid the first, and an old
kernel or a container may lack the second. What was taken away is therefore returned, and never assumed.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import struct
import subprocess
import sys
from pathlib import Path

#: Flags of ``unshare`` (linux/sched.h).
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000

#: Numbers of Landlock's system calls, which all architectures share, and its constants (linux/landlock.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _REMOVE, _MAKE, _REFER, _TRUNCATE = 1 << 1, 0b11 << 4, 0b1111111 << 6, 1 << 13, 1 << 14
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1

#: ``prctl`` option without which an unprivileged process cannot restrict itself (linux/prctl.h).
_NO_NEW_PRIVILEGES = 38


def launcher(folder: str | None) -> list[str]:
    """Return the interpreter's options before the name of a module: it then runs confined, if there is a folder.

    Parameters
    ----------
    folder : str or None
        See `confine`.
    """
    # By its path, and not as a module of the package, which would import NumPy: a library of it starts threads, and
    # only the calling thread would give up its rights.
    return ["-m"] if folder is None else [__file__, folder]


def confine(folder: str) -> list[str]:
    """Take away what the system can take away, for good.

    The process must have one thread only.

    Parameters
    ----------
    folder : str
        Where files may still be written, besides ``/dev``.

    Returns
    -------
    list of {"network", "files"}
        What was taken away.
    """
    taken = []
    libc = ctypes.CDLL(None, use_errno=True)
    if _unshare_network(libc):
        taken.append("network")
    version = libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), _VERSION)
    # Before the third version, Landlock cannot forbid to cut files.
    if version >= 1 and _restrict(libc, version, folder) and version >= 3:
        taken.append("files")
    return taken


def _unshare_network(libc: ctypes.CDLL) -> bool:
    """Move to a network without any interface, as the same user."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    try:
        # Within the new namespace of users, this process would be nobody.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return True  # files of the user may not be readable, which is no danger
    return True


def _restrict(libc: ctypes.CDLL, version: int, folder: str) -> bool:
    """Forbid to change files outside of a folder and of ``/dev`` and, where Landlock can, to use TCP."""
    rights = _WRITE_FILE | _REMOVE | _MAKE
    rights |= _REFER if version >= 2 else 0
    rights |= _TRUNCATE if version >= 3 else 0
    attributes = struct.pack("Q", rights)
    if version >= 4:
        attributes += struct.pack("Q", _BIND_TCP | _CONNECT_TCP)
    ruleset = libc.syscall(ctypes.c_long(_CREATE_RULESET), attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        for path in (folder, "/dev"):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", rights, descriptor)
            failed = libc.syscall(ctypes.c_long(_ADD_RULE), ruleset, _PATH_BENEATH, rule, 0)
            os.close(descriptor)
            if failed:
                return False
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ruleset, 0) == 0)
    except OSError:
        return False
    finally:
        os.close(ruleset)


def possible(folder: str) -> list[str]:
    """Return what can be taken away on this system, as a process that is started like a confined one finds out."""
    process = subprocess.run(
        [sys.executable, "-P", __file__, folder], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return process.stdout.split()


if __name__ == "__main__":
    taken_away = confine(sys.argv[1])
    del sys.argv[:2]
    if sys.argv:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        print(*taken_away)

"""Measured code that is confined has no network, and changes no file outside of the temporary folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import Command

from copycost.catalog.import_context import child_environment
from copycost.machine.confine import launcher, possible

POSSIBLE = possible(tempfile.gettempdir())

needs_files = pytest.mark.skipif("files" not in POSSIBLE, reason="this system has no Landlock")
needs_network = pytest.mark.skipif("network" not in POSSIBLE, reason="this system cannot take the network away")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The temporary folder of what is confined."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that is not in it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def confined(code: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a module that runs confined."""
    (temporary / "own_module.py").write_text(code)
    environment = child_environment() | {"TMPDIR": str(temporary)}
    environment["PYTHONPATH"] += f":{temporary}"
    return subprocess.run(
        [sys.executable, "-P", *launcher(str(temporary)), "own_module"],
        cwd=temporary, env=environment, capture_output=True, text=True,
    )  # fmt: skip


@needs_files
def test_files_outside_of_the_temporary_folder_are_not_changed(temporary: Path, elsewhere: Path) -> None:
    kept = elsewhere / "kept"
    kept.write_text("kept")
    for code in (
        f"open({str(elsewhere / 'new')!r}, 'w')",
        f"open({str(kept)!r}, 'a')",
        f"import os; os.unlink({str(kept)!r})",
        f"import os; os.truncate({str(kept)!r}, 0)",
        f"import os; os.mkdir({str(elsewhere / 'folder')!r})",
        f"import subprocess, sys; sys.exit(subprocess.call(['touch', {str(elsewhere / 'new')!r}]))",
    ):
        assert confined(code, temporary).returncode != 0, code
    assert [path.name for path in elsewhere.iterdir()] == ["kept"]
    assert kept.read_text() == "kept"
    assert confined(f"assert open({str(kept)!r}).read() == 'kept'", temporary).returncode == 0
    code = "import tempfile; tempfile.NamedTemporaryFile().write(b'1'); open('/dev/null', 'w').write('1')"
    done = confined(code, temporary)
    assert done.returncode == 0, done.stderr


@needs_network
def test_there_is_no_network(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection({server.getsockname()!r}, 2)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
        done = confined(code, temporary)
    assert done.returncode != 0
    assert "Error" in done.stderr
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        code = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {receiver.getsockname()!r})"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
        assert confined(code, temporary).returncode != 0


@needs_network
def test_a_judged_function_has_no_network(command: Command, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "import socket\n\n\ndef right(x):\n    return x * 2\n\n\n"
        "def sends(x):\n    socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\n    return x * 2\n"
    )
    done = command("judge", "f.py::right", "f.py::sends", "--input", "2x64x64x3:float32", "--exact", "--confined")
    assert done.stdout.startswith("wrong: raised OSError"), done.stdout + done.stderr


@needs_files
def test_a_judged_function_that_writes_a_file_raises(
    command: Command, tmp_path: Path, temporary: Path, elsewhere: Path
) -> None:
    (tmp_path / "f.py").write_text(
        "def right(x):\n    return x * 2\n\n\n"
        f"def writes(x):\n    open({str(elsewhere / 'new')!r}, 'w')\n    return x * 2\n"
    )
    shape = ("--input", "2x64x64x3:float32", "--exact")
    done = command("judge", "f.py::right", "f.py::writes", *shape, "--confined", env={"TMPDIR": str(temporary)})
    assert done.returncode == 1
    assert done.stdout.startswith("wrong: raised PermissionError"), done.stdout + done.stderr
    assert not list(elsewhere.iterdir())
    command("judge", "f.py::right", "f.py::writes", *shape)
    assert [path.name for path in elsewhere.iterdir()] == ["new"]


def test_measured_code_does_not_see_secrets(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "SSH_AUTH_SOCK", "OPENAI_API_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    environment = child_environment()
    assert not set(secrets) & set(environment)
    assert environment["KERAS_BACKEND"] == "tensorflow"
    (tmp_path / "f.py").write_text(
        "import os\n\n\ndef right(x):\n    return x * 2\n\n\n"
        f"def leaks(x):\n    return x * (3 if {secrets!r}[0] in os.environ else 2)\n"
    )
    done = command("judge", "f.py::right", "f.py::leaks", "--input", "64x64:float32", "--exact")
    assert done.stdout.startswith("same"), done.stdout + done.stderr
    assert os.environ["GITHUB_TOKEN"] == "secret"

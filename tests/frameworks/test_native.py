"""The operation in C++: built once, in place where TensorFlow lets it, skipped where there is no compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import by_variant, measure

from copycost.model.runtime import RuntimeUnavailable
from copycost.variants import native

tensorflow = pytest.importorskip("tensorflow")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = native.library()
    assert list(tmp_path.rglob("*")) == [tmp_path / "copycost", tmp_path / "copycost" / "operations", built]
    before = built.stat().st_mtime_ns
    assert native.library() == built
    assert built.stat().st_mtime_ns == before
    add = tensorflow.load_op_library(str(built)).copycost_add
    assert add([1.0, 2.0], [3.0, 4.0]).numpy().tolist() == [4.0, 6.0]
    with pytest.raises(tensorflow.errors.InvalidArgumentError, match="they must be equal"):
        add([1.0], [1.0, 2.0])


def test_without_a_compiler_the_case_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    (found,) = measure(recipes=("add",), variants=("tf-custom-op",), blocks=0)
    assert (found.status, found.reason) == (
        "skipped", "C++ compiler no-such-compiler not found: apt install g++, or name another in CXX",
    )  # fmt: skip


def test_a_compiler_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'add.cc:1: error: no such header' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(RuntimeUnavailable, match=r"cannot build the operation: add\.cc:1: error: no such header"):
        native.library()
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_where_it_writes_over_an_operand() -> None:
    """float32 is held by the caller; of uint8 the casts are its own, and it writes over one."""
    n = 4 * 64 * 48 * 3 * 8
    found = {m.dtype: m for m in measure(
        recipes=("add",), variants=("tf-custom-op", "tf-graph"), batches=(8,), dtypes=("float32", "uint8"), blocks=0,
        only=lambda case: case.variant.name == "tf-custom-op",
    )}  # fmt: skip
    assert (found["float32"].allocations, found["float32"].allocated_bytes) == (1, n)
    assert (found["uint8"].allocations, found["uint8"].allocated_bytes) == (2, 2 * n)
    assert by_variant([found["uint8"]])["tf-custom-op"].status == "ok"

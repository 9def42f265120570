"""CUDA kernels without a device: their C++ run on the CPU, and what NVIDIA's compiler makes of them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from copycost import registry
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.recipes import AFFINE
from copycost.variants.cupy import _VECTOR
from copycost_meter.libraries.cupy import HOLD

#: What a compiler for the CPU lacks, and a loop over all threads of a kernel.
ON_THE_CPU = """
#include <cmath>
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(n)
struct uchar4 { unsigned char x, y, z, w; };
struct float4 { float x, y, z, w; };
struct Three { unsigned x; };
static Three gridDim, blockDim, blockIdx, threadIdx;
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
template <typename T> T __ldcs(const T *p) { return *p; }
template <typename T> void __stcs(T *p, T v) { *p = v; }
"""
RUN = """
extern "C" void run_NAME(const void *x, float *y, unsigned n, const float *a, const float *b, unsigned blocks) {
  gridDim.x = blocks; blockDim.x = 192;
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
    for (threadIdx.x = 0; threadIdx.x < 192; threadIdx.x++)
      NAME(static_cast<const TYPE *>(x), y, n, a[0], a[1], a[2], b[0], b[1], b[2]);
}
"""
KERNELS = {
    f"{what}_{dtype}": scalar
    for what in ("affine", "reversed")
    for dtype, scalar in (("uint8", "unsigned char"), ("float32", "float"))
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels compiled for the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("kernels")
    runs = "".join(RUN.replace("NAME", name).replace("TYPE", scalar) for name, scalar in KERNELS.items())
    (folder / "affine.cpp").write_text(ON_THE_CPU + _VECTOR + runs)
    flags = (
        ["-O1", "-mfma", "-shared", "-fPIC"]
        if "fma" in Path("/proc/cpuinfo").read_text()
        else ["-O1", "-shared", "-fPIC"]
    )
    subprocess.run(["g++", *flags, "-o", folder / "affine.so", folder / "affine.cpp"], check=True)
    return ctypes.CDLL(str(folder / "affine.so"))


# Sizes with every remainder of a division by 4 and by 12, with fewer elements than threads, and with more than four
# reads for each.
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 5, 7, 3), (1, 3, 3, 3), (2, 31, 33, 3), (3, 41, 50, 3)])
@pytest.mark.parametrize("blocks", [1, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("recipe", sorted(AFFINE))
def test_every_element_is_right(
    recipe: str, dtype: str, blocks: int, shape: tuple[int, ...], library: ctypes.CDLL
) -> None:
    x = np.random.default_rng(3).integers(0, 256, shape).astype(dtype)
    y = np.full(shape, np.nan, np.float32)
    factors, summands, back = AFFINE[recipe]
    a, b = np.array(factors, np.float32), np.array(summands, np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y, a, b)]
    run = getattr(library, f"run_{'reversed' if back else 'affine'}_{dtype}")
    run(*pointers[:2], ctypes.c_uint(x.size), *pointers[2:], ctypes.c_uint(blocks))
    reference = registry.recipes[recipe].reference
    assert reference is not None
    (right,) = refer(reference, [x], "channels_last", np.dtype("float32"))
    assert judge(y, right, np.dtype("float32")).reason is None


def compiled(source: str, architecture: str) -> str:
    """Compile for an architecture with NVIDIA's run-time compiler, and return its PTX."""
    spec = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.cuda_nvrtc")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("nvidia-cuda-nvrtc-cu12 is not installed")
    (path,) = Path(next(iter(spec.submodule_search_locations)), "lib").glob("libnvrtc.so.*")
    nvrtc = ctypes.CDLL(str(path))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={architecture}".encode())
    status = nvrtc.nvrtcCompileProgram(program, 1, options)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetPTX(program, text) == 0
    return text.value.decode()


@pytest.mark.parametrize("architecture", ["compute_70", "compute_80", "compute_90", "compute_100"])
def test_the_compiler_makes_wide_accesses_and_no_division(architecture: str) -> None:
    ptx = compiled(_VECTOR, architecture)
    kernels = dict(re.findall(r"\.entry (\w+)\((.*?)^}", ptx, re.DOTALL | re.MULTILINE))
    assert set(kernels) == set(KERNELS)
    for name, body in kernels.items():
        loads, stores = re.findall(r"\bld\.global\S*", body), re.findall(r"\bst\.global\S*", body)
        wide = "v4.f32" if name.endswith("float32") else "v4.u8"
        expected = 5 if name.startswith("affine") else 3  # four in flight and one for the rest, or four pixels
        assert sum(wide in load for load in loads) == expected, loads
        assert sum("v4.f32" in store for store in stores) == expected, stores
        assert len(loads) == len(stores) == expected + 1  # and the last few elements, one by one
        assert not re.search(r"\bdiv\.", body)
        assert "fma.rn.f32" in body


@pytest.mark.parametrize("architecture", ["compute_70", "compute_90"])
def test_the_kernel_that_holds_a_device_compiles(architecture: str) -> None:
    ptx = compiled(HOLD, architecture)
    assert "globaltimer" in ptx
    assert not re.search(r"\b(ld|st)\.global", ptx)


NUMBA = """
import sys
import numpy as np
import copycost.recipes
from copycost import registry
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.variants import cupy_numba

recipe, dtype, layout = sys.argv[1:]
shape = (2, 5, 9, 3) if layout == "channels_last" else (2, 3, 5, 9)
x = np.random.default_rng(3).integers(0, 256, shape).astype(dtype)
kind = np.dtype("float32" if dtype == "uint8" else dtype)
out = np.full(shape, np.nan, kind)
cupy_numba._BLOCKS = 1  # each thread then takes several elements
assert registry.variants[recipe, "cupy-numba"].prepare(x)(x, out) is out
(right,) = refer(registry.recipes[recipe].reference, [x], layout, kind)
print(judge(out, right, kind).reason)
"""


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("recipe", sorted(AFFINE))
def test_numbas_kernel_is_right_in_its_simulator(recipe: str, dtype: str, layout: str) -> None:
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-c", NUMBA, recipe, dtype, layout], env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["None"], done.stderr


TRITON = """
import sys
import numpy as np
import torch
import copycost.recipes
from copycost import registry
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.variants import torch_triton

torch_triton._BLOCK = 64  # several programs, of which the last one has elements to spare
for dtype in ("uint8", "float32", "float64"):
    for layout, shape in {"channels_last": (2, 5, 9, 3), "channels_first": (2, 3, 5, 9)}.items():
        x = np.random.default_rng(3).integers(0, 256, shape).astype(dtype)
        kind = np.dtype("float32" if dtype == "uint8" else dtype)
        out = torch.full(shape, np.nan, dtype=getattr(torch, str(kind)))
        call = registry.variants[sys.argv[1], "torch-triton"].prepare(torch.from_numpy(x))
        assert call(torch.from_numpy(x), out) is out
        (right,) = refer(registry.recipes[sys.argv[1]].reference, [x], layout, kind)
        print(judge(out.numpy(), right, kind).reason)
"""


@pytest.mark.parametrize("recipe", sorted(AFFINE))
def test_tritons_kernel_is_right_in_its_interpreter(recipe: str) -> None:
    """For each dtype and layout: starting Triton takes longer than all of them."""
    pytest.importorskip("torch")
    folder = Path(sys.prefix, "triton")  # `make test` installs it there: it cannot be loaded beside TensorFlow
    if not folder.exists() and importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: make .venv/triton")
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(folder)])
    done = subprocess.run(
        [sys.executable, "-c", TRITON, recipe], env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.split() == ["None"] * 6, done.stderr

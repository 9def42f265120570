"""`copycost explain`: faults that were put into functions and scripts are found, and what is proposed is right."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copycost.catalog import discovery, import_context
from copycost.studies.explain import target
from copycost.studies.explain.explain import Explanation, explain, made_input
from copycost.studies.explain.target import TargetError
from copycost_meter.arrays import with_copies

SHAPE = (4, 96, 128, 3)


@dataclass(frozen=True)
class Case:
    """A function `f`, and what is to be found of it.

    Attributes
    ----------
    code : str
        Body of the module.
    kinds : set of str
        Kinds of all findings.
    proposals : tuple of str
        A part of the source of each proposal.
    dtype : str
    shape : tuple of int
    library : str
    """

    code: str
    kinds: set[str]
    proposals: tuple[str, ...] = ()
    dtype: str = "float32"
    shape: tuple[int, ...] = SHAPE
    library: str = "numpy"


CASES = {
    "a cast to the dtype it has": Case(
        "def f(x):\n    y = x.astype(np.float32)\n    return y * 2", {"cast"}, ("x.astype(np.float32, copy=False)",)
    ),
    "a module's constant of float64": Case(
        "MEAN = np.array([103.9, 116.8, 123.7])\ndef f(x):\n    return (x - MEAN).astype(np.float32)",
        {"float64", "cast"}, ("MEAN.astype('float32')",),
    ),
    "a new array for a change in place": Case(
        "def f(x):\n    x[:] = x / 255.0\n    return x", {"change", "temporary"}, ("x /= 255.0",)
    ),
    "a change in place of a part": Case(
        "def f(x):\n    x[1:] = x[1:] / 255.0\n    return x", {"change"}
    ),
    "an argument that a package changes": Case(
        "from keras.applications.vgg16 import preprocess_input\ndef f(x):\n    return preprocess_input(x)", {"change"},
    ),
    "a product of matrices in place": Case(
        "def f(x):\n    x[:] = x @ np.ones((3, 3), np.float32)\n    return x", {"change"}
    ),
    "an argument and a variable that a package changes": Case(
        "from keras.applications.vgg16 import preprocess_input\n"
        "def f(x):\n    x[0] = 0\n    y = np.ones_like(x)\n    preprocess_input(y)\n    return preprocess_input(x)",
        {"change"},
    ),
    "a literal of float64": Case(
        "def f(x):\n    y = x * np.array([1.5, 2.5, 3.5])\n    return y.astype('float32')",
        {"float64", "cast"}, ("np.array([1.5, 2.5, 3.5], dtype='float32')",),
    ),
    "integers divided": Case(
        "def f(x):\n    return (x / 255).astype(np.float32)", {"float64", "cast"}, ("x.astype('float32') / 255",),
        "uint8",
    ),
    "integers times a float": Case(
        "def f(x):\n    y = x * 0.5\n    return y.astype(np.float32)", {"float64", "cast"},
        ("x.astype('float32') * 0.5",), "uint8",
    ),
    "np.array of an array": Case(
        "def f(x):\n    x = np.array(x)\n    return x.mean(axis=0)", {"copy"}, ("np.asarray(x)",)
    ),
    "a copy that nothing writes to": Case("def f(x):\n    y = x.copy()\n    return y * 2", {"copy"}, ("y = x",)),
    "np.copy": Case("def f(x):\n    return np.copy(x).sum(axis=0)", {"copy"}, ("x.sum(axis=0)",)),
    "a copy that protects the input": Case("def f(x):\n    y = x.copy()\n    y -= 1\n    return y", {"copy"}),
    "a copy that is the result": Case("def f(x):\n    return x.copy()", {"copy"}),
    "flatten": Case("def f(x):\n    return x.flatten().reshape(4, -1).mean(axis=1)", {"copy"}, ("x.ravel()",)),
    "a reversed array made contiguous": Case(
        "def f(x):\n    y = np.ascontiguousarray(x[..., ::-1])\n    return y * 2", {"layout"}, ("y = x[..., ::-1]",)
    ),
    "reshape of a transpose": Case(
        "def f(x):\n    y = x.transpose(0, 3, 1, 2)\n    return y.reshape(4, -1)", {"layout"}
    ),
    "ravel of a crop": Case("def f(x):\n    crop = x[:, 8:-8, 8:-8]\n    return crop.ravel()", {"layout"}),
    "results that could be written over": Case(
        "def f(x):\n    y = x * 2\n    y = y + 1\n    y = y / 3\n    return y", {"temporary"}, ("y += 1", "y /= 3")
    ),
    "a temporary on the right": Case(
        "def f(x):\n    return np.float32(1) - x * np.float32(2)", {"temporary"}, ("np.subtract(np.float32(1), result",)
    ),
    "the result of a function on the right": Case(
        "def f(x):\n    y = x[::-1] - np.sqrt(x)\n    return y", {"temporary"}, ("np.subtract(x[::-1], y, out=y)",)
    ),
    "a temporary too small to be reused": Case(
        "def f(x):\n    return (x - 1) * 2", {"temporary"}, ("result *= 2",), shape=(32, 64, 3)
    ),
    "an input divided in place": Case("def f(x):\n    x /= 127.5\n    return x", {"change"}),
    "a part of the input set": Case("def f(x):\n    x[..., 0] = 0\n    return x.sum()", {"change"}),
    "a view of the input written to": Case(
        "def f(x):\n    first = x[0]\n    first += 1\n    return first.mean()", {"change"}
    ),
    "the input as out": Case("def f(x):\n    return np.subtract(x, 1, out=x)", {"change"}),
    "copyto the input": Case("def f(x):\n    np.copyto(x, 0)\n    return x[0, 0]", {"change"}),
    "the input sorted": Case("def f(x):\n    x.sort(axis=0)\n    return x[0]", {"change"}),
    "an input changed where nothing is observed": Case(
        "import numpy.lib.recfunctions as other\n"
        "def f(x):\n    exec('x[0] = 0')\n    return x.sum()", {"change"},
    ),
    "a conversion to float64": Case("def f(x):\n    return x.astype(np.float64).sum(axis=0)", {"float64"}),
    "a mean in float64": Case(
        "def f(x):\n    m = x.mean(axis=(1, 2), keepdims=True, dtype=np.float64)\n    return (x - m).astype('float32')",
        {"float64", "cast"}, ("m.astype('float32')",),
    ),
    "a copy of each image": Case(
        "def f(x):\n    return np.stack([image.copy() for image in x])", {"copy"}, ("np.stack([image for image in x])",)
    ),
    "a helper that copies": Case(
        "def helper(y):\n    return np.array(y)\ndef f(x):\n    return helper(x) * 2", {"copy"}
    ),
    "TensorFlow, operation by operation": Case(
        "def f(x):\n    y = x / 127.5\n    y = y - 1.0\n    y = y * y\n    return y + x", set(), ("@tf.function",),
        shape=(8, 224, 224, 3), library="tensorflow",
    ),
    "a tensor through NumPy": Case(
        "import tensorflow as tf\ndef f(x):\n    return tf.constant(x.numpy() * 2)", {"conversion"},
        library="tensorflow",
    ),
    "JAX operation by operation": Case(
        "def f(x):\n    return (x / 127.5 - 1.0) * 2.0 + x", set(), ("@jax.jit\ndef f(x):",), library="jax",
    ),
    "JAX compiled already": Case(
        "import jax\n@jax.jit\ndef f(x):\n    return (x / 127.5 - 1.0) * 2.0 + x", set(), library="jax",
    ),
    "PyTorch in place": Case("def f(x):\n    return x.add_(1)", {"change"}, library="torch"),
    "a clone": Case(
        "def f(x):\n    return x.clone() * 2", {"copy", "temporary"}, ("return x * 2", "result *= 2"), library="torch"
    ),
    "JAX and NumPy": Case(
        "import jax.numpy as jnp\ndef f(x):\n    return jnp.asarray(x * 2)", {"conversion"}
    ),
    "a layout that is the result": Case(
        "def f(x):\n    y = (x * 2).transpose(3, 0, 1, 2)\n    return np.ascontiguousarray(y)", {"layout"}
    ),
    "two results that must be apart": Case("def f(x):\n    a = x * 2\n    b = a.copy()\n    return a, b", {"copy"}),
    "a number beside an array": Case(
        "def f(x):\n    y = x * np.float32(0.1)\n    return y, float(y.astype(np.float64).sum())", {"float64"}
    ),
    "a copy that is kept": Case("KEPT = {}\ndef f(x):\n    KEPT['x'] = x.copy()\n    return x * 2", {"copy"}),
    "large integers": Case(
        "def f(x):\n    return (x * 0.5).astype(np.float32)", {"float64", "cast"},
        ("x.astype('float32') * 0.5",), "int64",
    ),
    "an argument called name": Case(
        "class A:\n    def m(self, x, name, node):\n        return x.copy()\ndef f(x):\n"
        "    return A().m(x, name='a', node=1)", {"copy"}
    ),
    "a sorted copy": Case("def f(x):\n    return np.sort(x, axis=0)", set()),
    "the input as a ufunc's third argument": Case("def f(x):\n    return np.add(x, 1, x)", {"change"}),
    "a name that is in use": Case(
        "def f(x):\n    result = x.mean()\n    return np.exp(x - 255)[::-1] - x * result", {"temporary"},
        ("np.subtract(np.exp(x - 255)[::-1], result_2, out=result_2)",),
    ),
    "nothing to find": Case(
        "def f(x):\n    y = np.divide(x, np.float32(127.5))\n    y -= 1\n    return y", set()
    ),
    "views": Case("def f(x):\n    return x[..., ::-1].transpose(0, 3, 1, 2)[:, :, 1:]", set()),
}  # fmt: skip


def explained(case: Case, folder: Path) -> tuple[Explanation, Callable[..., Any]]:
    """The explanation of a case, and the function `f` itself."""
    path = folder / "case.py"
    path.write_text(f"import numpy as np\n{case.code}\n")
    chosen = target.resolve(f"{path}:f")
    return explain(chosen, [((x,), {}) for x in inputs(case, range(3))]), target.function_of(chosen)


def inputs(case: Case, seeds: Any) -> list[Any]:
    runtime = discovery.runtime(case.library)
    arrays = [made_input(case.shape, case.dtype, seed) for seed in seeds]
    return arrays if case.library == "numpy" else [runtime.array(array, False) for array in arrays]


@pytest.mark.parametrize("name", CASES)
def test_faults_are_found_and_only_right_rewrites_are_proposed(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for library in (case.library, *re.findall(r"import (tensorflow|jax)", case.code)):
        pytest.importorskip(library)
    if "keras" in case.code:
        pytest.importorskip("keras")
    found, f = explained(case, tmp_path)
    assert {str(finding.kind) for finding in found.findings} == case.kinds, found.findings
    assert all(finding.line for finding in found.findings) or "exec(" in case.code
    for part in case.proposals:
        assert any(part in proposal.after for proposal in found.proposals), (part, found.proposals, found.rejected)
    if not case.proposals:
        assert not found.proposals
    # By another way than the proof: the file is changed as a reader would, and compared on other values.
    lines = (tmp_path / "case.py").read_text().splitlines()
    for proposal in found.proposals:
        if proposal.after.startswith("@"):
            continue
        indent = re.match(r" *", lines[proposal.line - 1])
        assert indent is not None
        changed = list(lines)
        changed[proposal.line - 1] = "\n".join(indent[0] + line for line in proposal.after.splitlines())
        names: dict[str, Any] = {}
        exec("\n".join(changed), names)
        for x in inputs(case, (97, 98)):
            own = with_copies(x, {}), with_copies(x, {})
            expected, result = f(own[0]), names["f"](own[1])
            np.testing.assert_allclose(np.asarray(own[1]), np.asarray(own[0]), rtol=1e-6)
            assert np.array_equal(np.asarray(own[0]), np.asarray(x)) == ("change" not in case.kinds)
            assert result.dtype == expected.dtype
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)


def test_a_rewrite_that_changes_the_result_is_not_proposed(tmp_path: Path) -> None:
    """The constant is not a float32: what float64 computes is not what float32 does."""
    case = Case("C = np.array([1e-9, 1.0, 1e9])\ndef f(x):\n    return ((x + C) - C)", {"float64", "temporary"})
    found, _ = explained(case, tmp_path)
    assert not [proposal for proposal in found.proposals if "float32" in proposal.after]
    assert found.rejected


def test_a_change_in_a_function_of_the_file_is_listed_once(tmp_path: Path) -> None:
    code = "def first(y):\n    y[0] = 0\ndef f(x):\n    first(x)\n    return x + 1"
    found, _ = explained(Case(code, {"change"}), tmp_path)
    assert [(finding.line, finding.text) for finding in found.findings] == [
        (3, "writes to x, which the caller has given")
    ]


def test_lines_have_their_requests(tmp_path: Path) -> None:
    found, _ = explained(CASES["results that could be written over"], tmp_path)
    nbytes = int(np.prod(SHAPE)) * 4
    assert [(line.number, line.requests, line.nbytes) for line in found.lines] == [
        (3, 1, nbytes), (4, 1, nbytes), (5, 1, nbytes),
    ]  # fmt: skip
    assert found.count.allocated_bytes == 3 * nbytes
    assert found.together is not None
    assert found.together.bytes_after == nbytes


SCRIPT = """
import numpy as np
import tensorflow as tf


@tf.function
def scaled(x, factor):
    return x * factor


x = tf.ones((4, 64, 64, 3))
for k in range(3):
    scaled(x, float(k))
for k in range(3):
    scaled(x, tf.constant(1.0))
images = np.ones((4, 64, 64, 3), np.uint8)
batch = images / 255.0
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "copycost", "explain", *arguments], cwd=folder, capture_output=True, text=True,
        env=import_context.child_environment(), timeout=300,
    )  # fmt: skip


def test_a_script_and_its_traces(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = command(tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    blocks = {int(block.split()[0]): block for block in done.stdout.split("\n\n") if block.split()[0].isdigit()}
    assert "retrace: scaled(x, float(k)) is traced 3 times in 3 calls" in blocks[13]
    assert "retrace" not in blocks.get(15, "")  # one trace for tensors
    assert "float64: becomes float64: an operation of uint8 gives float64" in blocks[17]
    assert "448 KiB in 2 requests" in blocks[17]  # the result, and the buffer in which NumPy casts


CHANGED_IN_A_CALL = """
import numpy as np
from keras.applications.vgg16 import preprocess_input


def halved(images, out=None):
    return np.divide(images, 2, out=out)


print("printed once for each call")
image = np.random.rand(224, 224, 3)
result = preprocess_input(image)
again = preprocess_input(image.copy())
batch = preprocess_input(np.expand_dims(image, 0))
images = [np.ones((8, 8, 3)), image + 1]
for _ in range(2):
    both = list(map(preprocess_input, images))
def all_of(images):
    return [preprocess_input(one) for one in images]
all_of([result, images[1]])
held = {"image": np.ones((8, 8, 3))}
preprocess_input(x=held["image"])
halved(image, out=result)
np.copyto(image, result)
np.random.shuffle(image)
"""


def test_a_call_that_changes_a_variable_of_a_script(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    (tmp_path / "script.py").write_text(CHANGED_IN_A_CALL)
    done = command(tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    changes = {
        (int(block.split()[0]), line.partition("writes to ")[2])
        for block in done.stdout.split("\n\n")
        for line in block.splitlines()
        if "change:" in line
    }
    # What names its output, and what is called to write, is no surprise; nobody sees the copy.
    lines = CHANGED_IN_A_CALL.splitlines()
    assert {(lines[number - 1], text) for number, text in changes} == {
        ("result = preprocess_input(image)", "image"),
        ("batch = preprocess_input(np.expand_dims(image, 0))", "image"),
        ("    return [preprocess_input(one) for one in images]", "one (2 times)"),
        ("all_of([result, images[1]])", "result"),
        ("all_of([result, images[1]])", "images[1]"),
        ('preprocess_input(x=held["image"])', "held['image']"),
    }
    assert "printed once" not in done.stdout
    assert "target.py" not in done.stdout  # requests of the meter's own


def test_a_script_may_end_and_read_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(
        "import sys\nimport numpy as np\nx = np.ones(100_000)\nassert sys.argv[1:] == []\nsys.exit(0)\n"
    )
    done = command(tmp_path, "ends.py")
    assert done.returncode == 0, done.stderr
    assert "x = np.ones(100_000)\n       781 KiB" in done.stdout


def test_a_function_of_a_package(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from .other import K\n\n\ndef f(x):\n    return x.copy() * K\n")
    (tmp_path / "pack" / "other.py").write_text("K = 2\n")
    done = command(tmp_path, "pack:f")
    assert done.returncode == 0, done.stderr
    assert "copy: copies x" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.py",), "absent.py: No such file or directory"),
        (("broken.py:f",), "broken.py is not a Python file"),
        (("good.py:g",), "good.py has no function g at its top level: expected one of f, raises"),
        (("good",), "'good' names no function: expected module:function, file.py:function or script.py"),
        (("no.such:f",), "no module no.such found here or among the installed packages"),
        (("good.py:raises",), "good.py:raises raised ZeroDivisionError: division by zero"),
        (("good.py:f", "--input", "8x8"), "'8x8' is not an input: expected a shape and one of uint8"),
        (("good.py:f", "--input", "8x8:float32", "--input", "8:uint8"), "good.py:f raised TypeError"),
        (("good.py", "--input", "8x8:float32"), "--input is for a function"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("def f(x):\n    return x + 1\n\n\ndef raises(x):\n    return 1 / 0\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    done = command(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_target_that_ends_the_process_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\n\n\ndef f(x):\n    sys.exit(3)\n")
    with pytest.raises(TargetError, match=r"^ends.py:f raised SystemExit: 3$"):
        explain(target.resolve(f"{tmp_path / 'ends.py'}:f"), [((made_input((8, 8), "float32"),), {})])

"""Check claims about mixing arrays and tensors: which library computes, what is converted, and what is copied."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from copycost.catalog import import_context
from copycost.engine.compare_arrays import same
from copycost.studies.claims import probes
from copycost.studies.claims.claim import HOLDS, REFUTED, Evidence, all_or_none, claim, each, yes

DOCUMENT = "002_eb0676d81cff0efb.txt"

#: Number of heap positions in which a conversion is measured: one in four is a multiple of 64 bytes.
_DISPLACEMENTS = 8


def digests() -> dict[str, str]:
    """Return a digest of the bits of each calculation's result, by name."""
    random = np.random.default_rng(0)
    by_name: dict[str, str] = {}

    def keep(name: str, result: Any) -> None:
        by_name[name] = hashlib.sha256(np.ascontiguousarray(result).tobytes()).hexdigest()

    x: Any
    y: Any
    for dtype in (np.float32, np.float64):
        x = random.uniform(0.01, 0.99, 100_003).astype(dtype)
        y = random.uniform(0.01, 0.99, 100_003).astype(dtype)
        tiny = np.geomspace(np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny * 16, 997).astype(dtype)
        kind = np.dtype(dtype).name
        for name in dir(np):
            ufunc = getattr(np, name)
            if not isinstance(ufunc, np.ufunc) or ufunc.nout != 1 or ufunc.nin > 2 or ufunc.signature:
                continue
            for what, arguments in (("", (x, y)), (" of subnormals", (tiny, tiny[::-1]))):
                with np.errstate(all="ignore"):
                    try:
                        keep(f"{name}{what}, {kind}", ufunc(*arguments[: ufunc.nin]))
                    except TypeError:  # the ufunc does not support floats
                        break
        for name in ("sum", "mean", "std", "var", "prod", "cumsum", "min", "max", "median", "sort", "argsort", "ptp"):
            keep(f"{name}, {kind}", getattr(np, name)(x))
        a, b = x[:99_856].reshape(316, 316), y[:99_856].reshape(316, 316)
        for name, result in (
            ("matmul", a @ b), ("dot", x @ y), ("einsum", np.einsum("ij,jk", a, b)), ("tensordot", np.tensordot(a, b)),
            ("solve", np.linalg.solve(a, b)), ("svd", np.linalg.svd(a[:64, :64])[1]), ("fft", np.fft.fft(x)),
            ("minmax", (x - x.min()) / (x.max() - x.min())),
        ):  # fmt: skip
            keep(f"{name}, {kind}", result)
    return by_name


def _in_a_fresh_process(before: str) -> dict[str, str]:
    """Return `digests` of a fresh process that first runs a line of Python."""
    code = f"{before}\nimport json\nfrom {__name__} import digests\nprint(json.dumps(digests()))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=import_context.child_environment()
    )
    return json.loads(process.stdout.splitlines()[-1])


@claim(
    DOCUMENT,
    "Importing TensorFlow changes what NumPy calculates.",
    judge=lambda e: REFUTED if not e["imported"] and not e["used"] else HOLDS,
    because=lambda e: (
        f"of {e['calculations']} calculations in fresh processes (ufuncs, reductions, linear algebra, subnormal "
        f"numbers) {len(e['imported'])} differ in a bit after the import, {len(e['used'])} after TensorFlow has worked"
    ),
    reproduce="""
import numpy as np
x = np.random.default_rng(0).random((300, 300))
before = np.linalg.inv(np.exp(x) @ x)
import tensorflow
print(np.array_equal(before, np.linalg.inv(np.exp(x) @ x)))  # True
""",
)
def importing_tensorflow_changes_numpy() -> Evidence:
    work = "import tensorflow as tf; tf.linalg.matmul(tf.ones((300, 300)), tf.ones((300, 300)))"
    with ThreadPoolExecutor(2) as pool:
        plain, again, imported, used = pool.map(_in_a_fresh_process, ("", "", "import tensorflow", work))
    if plain != again:
        raise RuntimeError("NumPy's results differ between two processes even without TensorFlow")
    return {
        "calculations": len(plain),
        "imported": [name for name in plain if plain[name] != imported[name]],
        "used": [name for name in plain if plain[name] != used[name]],
    }


def _kind(value: Any) -> str:
    return "NumPy" if isinstance(value, np.generic | np.ndarray) else "TensorFlow"


@claim(
    DOCUMENT,
    "Given a tensor, np.max is TensorFlow's and not NumPy's.",
    judge=lambda e: REFUTED if e["given a tensor"]["np.max"] == "NumPy" else HOLDS,
    because=lambda e: "; ".join(
        f"{form}, these give NumPy's: {', '.join(n for n, kind in kinds.items() if kind == 'NumPy') or 'none'}; "
        f"TensorFlow's: {', '.join(n for n, kind in kinds.items() if kind != 'NumPy') or 'none'}"
        for form, kinds in e.items()
    ),
    reproduce="""
import numpy as np, tensorflow as tf
x = tf.constant([1.0, 2.0])
print(type(np.max(x)), type(np.add(x, 1)))  # numpy.float32, numpy.ndarray
print(type(x - np.max(x)), type(np.ones(2) - x))  # tensors, both
""",
)
def tensorflow_intercepts_np_max() -> Evidence:
    import tensorflow as tf

    array = probes.photographs("float32", (1, 8, 8, 3))
    tensor = tf.constant(array)
    return {
        "given a tensor": {
            "np.max": _kind(np.max(tensor)),
            "np.min": _kind(np.min(tensor)),
            "np.add": _kind(np.add(tensor, array)),
            "np.sum": _kind(np.sum(tensor)),
            "tensor - scalar": _kind(tensor - np.float32(1)),
            "array - tensor": _kind(array - tensor),
        },
        "given an array": {
            "tf.reduce_max": _kind(tf.reduce_max(array)),
            "tf.add": _kind(tf.add(array, array)),
            "tf.cast": _kind(tf.cast(array, tf.float32)),
        },
    }


@claim(
    DOCUMENT,
    "np.max of a tensor makes a part of a graph, which is computed later.",
    judge=lambda e: REFUTED if e["eager"] == "a number at once" else HOLDS,
    because=lambda e: f"eager: {e['eager']}; inside tf.function: {e['function']}",
    reproduce="""
import numpy as np, tensorflow as tf
print(np.max(tf.constant([1.0, 2.0])))  # 2.0
tf.function(lambda x: np.max(x))(tf.constant([1.0, 2.0]))  # NotImplementedError
""",
)
def np_max_makes_a_graph() -> Evidence:
    import tensorflow as tf

    tensor = tf.constant([1.0, 2.0])
    largest = np.max(tensor)
    return {
        "eager": "a number at once" if isinstance(largest, np.floating) and largest == 2 else type(largest).__name__,
        "function": _raised(lambda: tf.function(np.max)(tensor)),
    }


def _raised(call: Any) -> str:
    """Return the type of the exception that a call raises, or of the value that it returns."""
    try:
        return f"returns {type(call()).__name__}"
    except Exception as error:
        return f"raises {type(error).__name__}"


def _by_numpy(x: np.ndarray) -> np.ndarray:
    low, high = np.min(x), np.max(x)
    return (x - low) / (high - low)


def _by_tensor(x: np.ndarray) -> np.ndarray:
    """Scale a tensor by NumPy's functions, as the document does."""
    import tensorflow as tf

    tensor = tf.convert_to_tensor(x, dtype=tf.float32)
    low, high = np.min(tensor), np.max(tensor)
    return ((tensor - low) / (high - low)).numpy()


@claim(
    DOCUMENT,
    "Pixels scaled by NumPy's functions of a tensor come out differently.",
    judge=lambda e: all_or_none([off > 0 for off in e["off"].values()]),
    because=lambda e: (
        "largest difference from the same lines with an array: "
        + ", ".join(f"{dtype} {off:.2g} ({e['results'][dtype]})" for dtype, off in e["off"].items())
    ),
    reproduce="""
import numpy as np, tensorflow as tf
x = np.random.randint(0, 256, (100, 100, 3), np.uint8)
t, scale = tf.convert_to_tensor(x, tf.float32), lambda a: (a - np.min(a)) / (np.max(a) - np.min(a))
print(abs(scale(t).numpy() - scale(x)).max())  # about 3e-08: bytes became float64 there and float32 here
print(abs(scale(t).numpy() - scale(x.astype(np.float32))).max())  # 0.0
""",
)
def numpy_on_tensors_differs() -> Evidence:
    off, results = {}, {}
    for dtype in ("uint8", "float32", "float64"):
        x = probes.photographs(dtype, (2, 100, 100, 3))
        array, tensor = _by_numpy(x), _by_tensor(x)
        off[dtype] = float(np.abs(array.astype(np.float64) - tensor).max())
        results[dtype] = f"{array.dtype} and {tensor.dtype}"
    return {"off": off, "results": results}


@claim(
    DOCUMENT,
    "With eager execution off, NumPy's functions of a tensor raise an error.",
    judge=lambda e: all_or_none([outcome.startswith("raises") for outcome in e["calls"].values()]),
    because=lambda e: each(e["calls"], str),
    reproduce="""
import numpy as np, tensorflow as tf
tf.compat.v1.disable_eager_execution()
np.max(tf.constant([1.0, 2.0]))  # NotImplementedError
""",
)
def mixing_raises_without_eager() -> Evidence:
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    tensor = tf.convert_to_tensor(probes.photographs("uint8", (1, 8, 8, 3)), dtype=tf.float32)
    calls = {
        "np.max": lambda: np.max(tensor),
        "np.asarray": lambda: np.asarray(tensor),
        "np.add": lambda: np.add(tensor, 1),
    }
    return {"calls": {name: _raised(call) for name, call in calls.items()}}


@claim(
    DOCUMENT,
    "TensorFlow builds a graph first and computes later.",
    judge=lambda e: all_or_none([not at_once for at_once in e["at_once"].values()]),
    because=lambda e: "the value is there at once: " + each(e["at_once"], yes),
    reproduce="""
import tensorflow as tf
print(tf.constant(1) + 1)  # tf.Tensor(2, …)
with tf.Graph().as_default():
    print(tf.constant(1) + 1)  # Tensor("add:0", …): no value
""",
)
def tensorflow_computes_later() -> Evidence:
    import tensorflow as tf

    def there(tensor: Any) -> bool:
        try:
            return int(np.asarray(tensor)) == 2
        except (NotImplementedError, TypeError):
            return False

    with tf.Graph().as_default():
        in_graph = there(tf.constant(1) + 1)
    return {
        "at_once": {
            "eager, the default": there(tf.constant(1) + 1),
            "the result of a tf.function": there(tf.function(lambda x: x + 1)(tf.constant(1))),
            "in a graph of TensorFlow 1's": in_graph,
        }
    }


@claim(
    DOCUMENT,
    "Explicit conversion between arrays and tensors costs nothing.",
    judge=lambda e: all_or_none([not any(sizes["bytes"]) for sizes in e["ways"].values()]),
    because=lambda e: "; ".join(
        f"{name} {' or '.join(map(probes.batches, sizes['bytes']))}, "
        f"{'shares' if sizes['shares'] else 'does not share'} memory" + (", read-only" if sizes["read_only"] else "")
        for name, sizes in e["ways"].items()
    ),
    reproduce="""
import numpy as np, tensorflow as tf
x = tf.ones((8, 224, 224, 3))
for array in (x.numpy(), np.asarray(x), np.asarray(memoryview(x)), np.from_dlpack(x)):
    print(np.shares_memory(array, np.asarray(memoryview(x))))  # which share, and which have copied
""",
)
def conversion_costs_nothing() -> Evidence:
    import tensorflow as tf

    array = probes.aligned(probes.photographs("float32"))
    tensor = tf.constant(array) + 0
    memory = np.asarray(memoryview(tensor))
    ways = {}
    for name, call in {
        ".numpy()": tensor.numpy,
        "np.asarray": lambda: np.asarray(tensor),
        "np.array(copy=None)": lambda: np.array(tensor, copy=None),
        "memoryview": lambda: np.asarray(memoryview(tensor)),
        "np.from_dlpack": lambda: np.from_dlpack(tensor),
    }.items():
        result = call()
        ways[name] = _way(call, bool(np.shares_memory(result, memory)), not result.flags.writeable)
    for name, call in {
        "tf.constant": lambda: tf.constant(array),
        "tf.convert_to_tensor": lambda: tf.convert_to_tensor(array),
        "tf.experimental.dlpack": lambda: tf.experimental.dlpack.from_dlpack(array.__dlpack__()),
    }.items():
        shares = np.shares_memory(np.asarray(memoryview(call())), array)
        ways[name] = _way(call, bool(shares), False)
    return {"ways": ways}


def _way(call: Any, shares: bool, read_only: bool) -> dict[str, Any]:
    """Return the bytes that a conversion allocates at several heap positions.

    TensorFlow adopts a copy that NumPy made for it if the copy happens to be aligned to 64 bytes. Otherwise, TensorFlow
    copies it again. Therefore, an allocation before each call shifts the heap.
    """
    displaced = []

    def elsewhere() -> Any:
        displaced.append(np.empty(probes.NBYTES, np.uint8))
        return call()

    summaries = probes.windows("tensorflow", lambda i: elsewhere, _DISPLACEMENTS)
    sizes = {summary.allocated_bytes - probes.NBYTES for summary in summaries}
    return {"bytes": sorted(sizes), "shares": shares, "read_only": read_only}


@claim(
    DOCUMENT,
    ".numpy() gives an array of NumPy's, on which NumPy works alone.",
    judge=lambda e: all_or_none([e["type"] == "ndarray", e["of_sum"] == "ndarray", e["alone"]]),
    because=lambda e: (
        f"its type is {e['type']}, and the type of a sum with it {e['of_sum']}; writing to it changes the tensor: "
        f"{yes(not e['alone'])}"
    ),
    reproduce="""
import numpy as np, tensorflow as tf
x = tf.ones(3)
array = x.numpy()
array += 1
print(type(array), x.numpy())  # numpy.ndarray, [1. 1. 1.]
""",
)
def numpy_gives_an_array() -> Evidence:
    import tensorflow as tf

    x = tf.constant(probes.photographs("float32", (1, 8, 8, 3))) + 0
    before = np.array(memoryview(x))
    array = x.numpy()
    of_sum = type(array + array).__name__
    if array.flags.writeable:
        array += 1
    return {"type": type(array).__name__, "of_sum": of_sum, "alone": same(before, np.array(memoryview(x)))}


@claim(
    DOCUMENT,
    "Type hints do not change how code executes.",
    runtime="numpy",
    judge=lambda e: HOLDS if e["same_code"] and e["same_result"] else REFUTED,
    because=lambda e: (
        f"with and without them: bytecode {'equal' if e['same_code'] else 'different'}, result "
        f"{'equal to the bit' if e['same_result'] else 'different'}; a list passed where the hint is an array: "
        f"{e['given']}"
    ),
    reproduce="""
import numpy as np
def hinted(x: np.ndarray) -> np.ndarray: return x / 255
def plain(x): return x / 255
print(hinted.__code__.co_code == plain.__code__.co_code)  # True
""",
)
def type_hints_change_nothing() -> Evidence:
    def hinted(x: np.ndarray) -> np.ndarray:
        return (x - x.min()) / (x.max() - x.min())

    def plain(x):  # type: ignore[no-untyped-def]
        return (x - x.min()) / (x.max() - x.min())

    x = probes.photographs("float32", (1, 8, 8, 3))
    try:
        hinted([1.0])  # type: ignore[arg-type]
        outcome = "accepted"
    except AttributeError as error:
        outcome = f"not refused by the hint, but by the code ({error})"
    return {
        "same_code": hinted.__code__.co_code == plain.__code__.co_code,
        "same_result": same(hinted(x), plain(x)),
        "given": outcome,
    }


@claim(
    DOCUMENT,
    "NumPy code that is given a tensor still runs without an error.",
    judge=lambda e: all_or_none([not outcome.startswith("raises") for outcome in e["calls"].values()]),
    because=lambda e: each(e["calls"], str),
    reproduce="""
import numpy as np, tensorflow as tf
x = tf.ones((2, 3))
print(np.max(x), np.add(x, 1).shape)  # 1.0 (2, 3)
x.astype(np.float64)  # AttributeError
""",
)
def numpy_code_takes_tensors() -> Evidence:
    import tensorflow as tf

    x = tf.constant(probes.photographs("float32", (1, 8, 8, 3)))

    def into() -> Any:
        return np.add(x, 1, out=x)

    def assign() -> None:
        x[:] = 0

    calls = {
        "np.max(x)": lambda: np.max(x), "np.add(x, 1)": lambda: np.add(x, 1), "x[..., ::-1]": lambda: x[..., ::-1],
        "x.astype": lambda: x.astype(np.float64), "x.mean()": lambda: x.mean(), "x[:] = 0": assign,
        "np.add(x, 1, out=x)": into,
    }  # fmt: skip
    return {"calls": {name: _raised(call) for name, call in calls.items()}}

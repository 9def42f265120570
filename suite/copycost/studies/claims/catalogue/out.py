"""Check claims about NumPy's `out=` and its equivalents in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from copycost.engine.compare_arrays import same
from copycost.model.runtime import RuntimeUnavailable
from copycost.studies.claims import probes
from copycost.studies.claims.claim import (
    DEPENDS,
    HOLDS,
    REFUTED,
    Evidence,
    all_or_none,
    claim,
    each,
    faster,
    interval,
    times,
    yes,
)
from copycost.variants import native

DOCUMENT = "003_68b9e6b4347422cc.txt"


def _pair() -> tuple[np.ndarray, np.ndarray]:
    x = probes.photographs("float32")
    return x, x[::-1].copy()


def _tensors() -> tuple[Any, Any]:
    """Return two batches in memory that TensorFlow allocated."""
    import tensorflow as tf

    a, b = _pair()
    return tf.constant(a) + 0, tf.constant(b) + 0


def _both(first: str, second: str) -> Callable[[Evidence], str]:
    """Return a formatter of two numbers of bytes of the same way."""
    return lambda sizes: f"{probes.batches(sizes[first])} and {probes.batches(sizes[second])}"


@claim(
    DOCUMENT,
    "np.add(a, b, out=c) allocates nothing.",
    runtime="numpy",
    judge=lambda e: all_or_none([size == 0 for size in e["bytes"].values()]),
    because=lambda e: "bytes allocated: " + each(e["bytes"], "{:,}".format),
    reproduce="""
import numpy as np, tracemalloc
a = np.ones((8, 224, 224, 3), np.float32); c = np.empty_like(a)
tracemalloc.start()
np.add(a, a, out=c)
print(tracemalloc.get_traced_memory()[1])  # peak: a few hundred bytes
""",
)
def out_allocates_nothing() -> Evidence:
    a, b = _pair()
    c = np.empty_like(a)
    mean = np.array([103.939, 116.779, 123.68], np.float32)
    pixels = probes.photographs("uint8")
    return {
        "bytes": {
            "of equal dtype": probes.in_numpy(lambda: np.add(a, b, out=c)).allocated_bytes,
            "of a row of channels": probes.in_numpy(lambda: np.add(a, mean, out=c)).allocated_bytes,
            "of uint8 into float32": probes.in_numpy(lambda: np.add(pixels, mean, out=c)).allocated_bytes,
        }
    }


@claim(
    DOCUMENT,
    "NumPy's expression x / 127.5 - 1.0 makes an array for each operation.",
    runtime="numpy",
    judge=lambda e: all_or_none([size >= 2 * probes.NBYTES for size in e["bytes"].values()]),
    because=lambda e: each(e["bytes"], probes.batches) + f" (NumPy {e['numpy']})",
    reproduce="""
import numpy as np, tracemalloc
x = np.ones((8, 224, 224, 3), np.float32)
for scale, one in ((127.5, 1.0), (np.float32(127.5), np.float32(1))):
    tracemalloc.start(); y = x / scale - one
    print(tracemalloc.get_traced_memory()[1] / x.nbytes); del y; tracemalloc.stop()  # 2.0, then 1.0
""",
)
def an_expression_makes_an_array_an_operation() -> Evidence:
    x, wide = probes.photographs("float32"), probes.photographs("float64", (4, 224, 224, 3))
    scale, shift = np.float32(127.5), np.float32(1)
    return {
        "numpy": np.__version__,
        "bytes": {
            "float32 with Python's numbers": probes.in_numpy(lambda: x / 127.5 - 1.0).allocated_bytes,
            "float32 with np.float32": probes.in_numpy(lambda: x / scale - shift).allocated_bytes,
            "float64 with Python's numbers": probes.in_numpy(lambda: wide / 127.5 - 1.0).allocated_bytes,
        },
    }


def _assigning(value: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a tf.function that assigns ``value(a, b)`` to a variable."""
    import tensorflow as tf

    return tf.function(lambda c, a, b: (c.assign(value(a, b)), None)[1], **options)


@claim(
    DOCUMENT,
    "TensorFlow has nothing like out=: a result always takes new memory.",
    judge=lambda e: HOLDS if min(e["bytes"].values()) > 0 else REFUTED,
    because=lambda e: (
        "c.assign(a + b) allocates: "
        + each(e["bytes"], probes.batches)
        + f"; compiled, c keeps its address: {yes(e['same_address'])}"
    ),
    reproduce="""
import tensorflow as tf
a, c = tf.ones((8, 224, 224, 3)), tf.Variable(tf.zeros((8, 224, 224, 3)))
add = tf.function(lambda: (c.assign(a + a), None)[1], jit_compile=True)
add(); before = c.read_value().__array__().ctypes.data
add(); print(before == c.read_value().__array__().ctypes.data)  # True: written where c is
""",
)
def tensorflow_has_no_out() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    c = tf.Variable(tf.zeros_like(a))
    ways = {
        "eager": lambda c, a, b: c.assign(a + b),
        "in a tf.function": _assigning(lambda a, b: a + b),
        "with jit_compile=True": _assigning(lambda a, b: a + b, jit_compile=True),
    }
    summaries = probes.in_tensorflow({name: partial(way, c, a, b) for name, way in ways.items()})
    return {
        "bytes": {name: summary.allocated_bytes for name, summary in summaries.items()},
        "same_address": _keeps_address(ways, c, a, b),
    }


def _keeps_address(ways: dict[str, Any], c: Any, a: Any, b: Any) -> bool:
    """Return whether the last of the ways writes to the variable's existing memory."""
    way = list(ways.values())[-1]
    way(c, a, b)
    before = _address(c)
    way(c, a, b)
    return before == _address(c)


def _address(variable: Any) -> int:
    return int(np.asarray(memoryview(variable.read_value())).ctypes.data)


@claim(
    DOCUMENT,
    "Assigning a result to a variable does not save memory.",
    judge=lambda e: all_or_none([sizes["assigned"] >= sizes["new"] for sizes in e["ways"].values()]),
    because=lambda e: (
        "bytes allocated for a new result and for one that is assigned: "
        + each(e["ways"], _both("new", "assigned"))
        + "; kept after a call: "
        + each(e["ways"], _both("new_kept", "assigned_kept"))
    ),
    reproduce="""
# What each allocates, to the byte:
import subprocess
ways = [word for name in ("xla", "variable-xla") for word in ("--variant", f"tf-{name}")]
subprocess.run(["copycost", "run", "--recipe", "add", "--batch", "8", "--dtype", "float32", *ways])
""",
)
def assign_saves_no_memory() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    c = tf.Variable(tf.zeros_like(a))

    def add(a: Any, b: Any) -> Any:
        return a + b

    calls: dict[str, Callable[[], Any]] = {}
    names: dict[str, dict[str, Any] | None] = {"eager": None, "graph": {}, "XLA": {"jit_compile": True}}
    for name, options in names.items():
        new = add if options is None else tf.function(add, **options)
        into = (lambda c, a, b: c.assign(a + b)) if options is None else _assigning(add, **options)
        calls[f"{name}, new"] = partial(new, a, b)
        calls[f"{name}, assigned"] = partial(into, c, a, b)
    summaries = probes.in_tensorflow(calls)
    return {
        "ways": {
            name: {
                "new": summaries[f"{name}, new"].allocated_bytes,
                "assigned": summaries[f"{name}, assigned"].allocated_bytes,
                "new_kept": summaries[f"{name}, new"].retained_bytes,
                "assigned_kept": summaries[f"{name}, assigned"].retained_bytes,
            }
            for name in names
        }
    }


@claim(
    DOCUMENT,
    "assign makes copies of the value that it is given.",
    judge=lambda e: all_or_none([sizes["assigned"] > sizes["alone"] for sizes in e["ways"].values()]),
    because=lambda e: (
        "bytes of tf.add alone, and assigned: "
        + each(e["ways"], _both("alone", "assigned"))
        + f"; the variable's memory is the value's: {yes(e['adopted'])}"
    ),
    reproduce="""
import numpy as np, tensorflow as tf
c, value = tf.Variable(tf.zeros((8, 224, 224, 3))), tf.ones((8, 224, 224, 3)) + 0
c.assign(value)
print(np.shares_memory(np.asarray(memoryview(c.read_value())), np.asarray(memoryview(value))))  # True
""",
)
def assign_makes_copies() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    c = tf.Variable(tf.zeros_like(a))
    graph, into = tf.function(tf.add), _assigning(tf.add)
    summaries = probes.in_tensorflow(
        {
            "eager, alone": lambda: tf.add(a, b),
            "eager, assigned": lambda: c.assign(tf.add(a, b)),
            "graph, alone": lambda: graph(a, b),
            "graph, assigned": lambda: into(c, a, b),
        }
    )
    value = a + b
    c.assign(value)
    adopted = np.shares_memory(np.asarray(memoryview(c.read_value())), np.asarray(memoryview(value)))
    del value
    return {
        "adopted": bool(adopted),
        "ways": {
            name: {what: summaries[f"{name}, {what}"].allocated_bytes for what in ("alone", "assigned")}
            for name in ("eager", "graph")
        },
    }


@claim(
    DOCUMENT,
    "An assignment puts new memory into a variable; it never writes where the variable is.",
    judge=lambda e: all_or_none([not same_address for same_address in e["kept"].values()]),
    because=lambda e: "the variable's address stays: " + each(e["kept"], yes),
    reproduce="""
import tensorflow as tf
c = tf.Variable(tf.zeros((8, 224, 224, 3)))
for change in (lambda: c.assign(c + 1), lambda: c.assign_add(tf.ones(c.shape))):
    before = c.read_value().__array__().ctypes.data; change()
    print(before == c.read_value().__array__().ctypes.data)  # False, then True
""",
)
def assignments_never_write_in_place() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    graph, compiled = _assigning(tf.add), _assigning(tf.add, jit_compile=True)
    same_address = {}
    for name, change in {
        "assign, eager": lambda c: c.assign(a + b),
        "assign, graph": lambda c: graph(c, a, b),
        "assign, XLA": lambda c: compiled(c, a, b),
        "assign_add": lambda c: c.assign_add(b),
        "assign_sub": lambda c: c.assign_sub(b),
        "c[0].assign": lambda c: c[0].assign(b[0]),
    }.items():
        c = tf.Variable(tf.zeros_like(a))
        change(c)
        before = _address(c)
        change(c)
        same_address[name] = before == _address(c)
    return {"kept": same_address}


@claim(
    DOCUMENT,
    "A variable that two readers share changes under them.",
    judge=lambda e: (
        REFUTED if e["held_unchanged"] and e["later_changed"] else HOLDS if not e["held_unchanged"] else DEPENDS
    ),
    because=lambda e: (
        f"a value read before an assign_add {'stays as it was' if e['held_unchanged'] else 'changes'}, a value read "
        f"after it is {'new' if e['later_changed'] else 'as it was'}; assign_add allocates "
        f"{probes.batches(e['with_reader'])} while a reader holds its value and {probes.batches(e['alone'])} otherwise"
    ),
    reproduce="""
import tensorflow as tf
v = tf.Variable(tf.zeros(3))
held = v.read_value()
v.assign_add(tf.ones(3))
print(held.numpy(), v.numpy())  # [0. 0. 0.] [1. 1. 1.]
""",
)
def shared_variables_change_under_readers() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    v = tf.Variable(a + 0)
    reader = v.read_value()
    before = np.array(memoryview(reader))
    v.assign_add(b)
    held_unchanged = same(before, np.array(memoryview(reader)))
    later = not same(before, np.array(memoryview(v.read_value())))
    del reader

    def with_reader() -> None:
        reader = v.read_value()
        v.assign_add(b)
        del reader

    summaries = probes.in_tensorflow({"with_reader": with_reader, "alone": lambda: v.assign_add(b)})
    return {
        "held_unchanged": held_unchanged,
        "later_changed": later,
        **{name: summary.allocated_bytes for name, summary in summaries.items()},
    }


@claim(
    DOCUMENT,
    "Tensors are immutable.",
    judge=lambda e: all_or_none([not changes for changes in e["changed"].values()]),
    because=lambda e: "changed from outside, by " + each(e["changed"], yes),
    reproduce="""
import numpy as np, tensorflow as tf
memory = np.zeros(4096 + 64, np.uint8)
array = memory[-memory.ctypes.data % 64 :][:4096].view(np.float32)  # not aligned, TensorFlow would end the process
tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
array += 1; print(tensor[0].numpy())  # 1.0
""",
)
def tensors_are_immutable() -> Evidence:
    import tensorflow as tf

    def aliased(make: Callable[[np.ndarray], Any]) -> bool:
        array = probes.aligned(np.zeros((64, 64), np.float32))
        tensor = make(array)
        array += 1
        return bool(np.asarray(memoryview(tensor)).any())

    def written(give: Callable[[Any], np.ndarray]) -> bool:
        tensor = tf.zeros((64, 64)) + 0
        try:
            give(tensor)[:] = 1
        except ValueError:  # read-only
            return False
        return bool(np.asarray(memoryview(tensor)).any())

    return {
        "changed": {
            "the array of tf.constant": aliased(tf.constant),
            "the array of tf.convert_to_tensor": aliased(tf.convert_to_tensor),
            "the array of DLPack": aliased(lambda array: tf.experimental.dlpack.from_dlpack(array.__dlpack__())),
            "its .numpy()": written(lambda tensor: tensor.numpy()),
            "its memoryview": written(lambda tensor: np.asarray(memoryview(tensor))),
            "its np.from_dlpack": written(np.from_dlpack),
        }
    }


@claim(
    DOCUMENT,
    "A graph allocates fewer temporaries than the same operations one by one.",
    judge=lambda e: all_or_none([counts["graph"] < counts["eager"] for counts in e["formulas"].values()]),
    because=lambda e: (
        "requests of 4 KiB and more, eager and graph: "
        + ", ".join(f"{name} {counts['eager']} and {counts['graph']}" for name, counts in e["formulas"].items())
    ),
    reproduce="""
# What each allocates, to the byte:
import subprocess
ways = ["--variant", "tf-eager", "--variant", "tf-graph"]
subprocess.run(["copycost", "run", "--batch", "8", "--dtype", "float32", *ways])
""",
)
def graphs_allocate_fewer_temporaries() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    calls: dict[str, Callable[[], Any]] = {}
    recipes = ("tf", "torch", "minmax", "add")
    for recipe in recipes:
        x = (a, b) if recipe == "add" else a
        for name in ("eager", "graph"):
            calls[f"{recipe}, {name}"] = partial(probes.variant(recipe, f"tf-{name}", x), x)
    # Also measure a longer chain of operations.
    chain = _chain(8)
    calls["8 additions, eager"] = partial(chain, a)
    calls["8 additions, graph"] = partial(tf.function(chain), a)
    summaries = probes.in_tensorflow(calls)
    return {
        "formulas": {
            formula: {name: summaries[f"{formula}, {name}"].allocations for name in ("eager", "graph")}
            for formula in (*recipes, "8 additions")
        }
    }


def _chain(length: int) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        for _ in range(length):
            x = x + 1.0
        return x

    return call


@claim(
    DOCUMENT,
    "tf.while_loop over the images of a batch takes less memory than the whole batch at once.",
    judge=lambda e: all_or_none(
        [peak < e["peaks"]["at once"] for name, peak in e["peaks"].items() if name != "at once"]
    ),
    because=lambda e: (
        "peak during a call, and total allocated: "
        + "; ".join(
            f"{name} {probes.batches(peak)} and {probes.batches(e['totals'][name])}"
            for name, peak in e["peaks"].items()
        )
    ),
    reproduce="""
# The most that is alive at once:
import subprocess
ways = [word for name in ("graph", "while-loop", "while-loop-scatter") for word in ("--variant", f"tf-{name}")]
subprocess.run(["copycost", "run", "--recipe", "add", "--batch", "8", "--dtype", "float32", *ways])
""",
)
def while_loops_take_less_memory() -> Evidence:
    import tensorflow as tf

    a, b = _tensors()
    c = tf.Variable(tf.zeros_like(a))
    summaries = probes.in_tensorflow(
        {
            name: partial(probes.variant("add", variant, (a, b)), *arguments)
            for name, variant, arguments in (
                ("at once", "tf-graph", ((a, b),)),
                ("put together in the end", "tf-while-loop", ((a, b),)),
                ("c[i].assign", "tf-while-loop-slice", ((a, b), c)),
                ("c.scatter_update", "tf-while-loop-scatter", ((a, b), c)),
            )
        }
    )
    return {
        "peaks": {name: summary.peak_bytes for name, summary in summaries.items()},
        "totals": {name: summary.allocated_bytes for name, summary in summaries.items()},
    }


def _operation() -> Any:
    import tensorflow as tf

    return tf.load_op_library(str(native.library())).copycost_add


@claim(
    DOCUMENT,
    "An operation of one's own in C++ can work in place.",
    judge=lambda e: all_or_none([size == 0 for size in e["bytes"].values()]),
    because=lambda e: (
        "it allocates, adding to "
        + each(e["bytes"], probes.batches)
        + f"; TensorFlow's own tf.add, to an intermediate, {probes.batches(e['built_in'])}"
    ),
    reproduce="""
# Built from suite/copycost/native/add.cc, and measured beside the others:
import subprocess
ways = ["--variant", "tf-custom-op", "--variant", "tf-graph"]
subprocess.run(["copycost", "run", "--recipe", "add", "--batch", "8", "--dtype", "uint8", *ways])
""",
)
def custom_operations_work_in_place() -> Evidence:
    import tensorflow as tf

    operation = _operation()
    a, b = _tensors()

    summaries = probes.in_tensorflow(
        {
            "intermediate": tf.function(lambda: a * 2.0),
            "operation on it": tf.function(lambda: operation(a * 2.0, b)),
            "tf.add on it": tf.function(lambda: tf.add(a * 2.0, b)),
            "held": tf.function(lambda: operation(a, b)),
            "eager": lambda: operation(a, b),
        }
    )
    sizes = {name: summary.allocated_bytes for name, summary in summaries.items()}
    return {
        "bytes": {
            "an intermediate of a graph": sizes["operation on it"] - sizes["intermediate"],
            "a tensor that the caller holds": sizes["held"],
            "a tensor, eager": sizes["eager"],
        },
        "built_in": sizes["tf.add on it"] - sizes["intermediate"],
    }


@claim(
    DOCUMENT,
    "An operation of one's own in C++ is faster than TensorFlow's.",
    judge=lambda e: faster([times(e, "own", "tf.add")]),
    because=lambda e: f"adding two batches in a graph takes {interval(times(e, 'own', 'tf.add'))} the time of tf.add",
    reproduce="""
# Built from suite/copycost/native/add.cc, and measured beside the others:
import subprocess
ways = ["--variant", "tf-custom-op", "--variant", "tf-graph"]
subprocess.run(["copycost", "run", "--recipe", "add", "--batch", "8", "--dtype", "float32", *ways])
""",
    blocks=5,
)
def custom_operations_are_faster() -> Evidence:
    import tensorflow as tf

    operation = _operation()
    a, b = _tensors()
    custom, built_in = tf.function(lambda: operation(a, b)), tf.function(lambda: a + b)
    return {"seconds": probes.seconds(**{"own": custom, "tf.add": built_in})}


def _gradient(compute: Callable[[Any], Any]) -> str:
    """Return whether the gradient of a result by x passes, is None, or raises."""
    import tensorflow as tf

    x = tf.Variable(tf.ones((2, 3)))
    try:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(compute(x))
        gradient = tape.gradient(loss, x)
    except Exception as error:
        return f"raises {type(error).__name__}"
    return "None" if gradient is None else "passes"


@claim(
    DOCUMENT,
    "Writing in place breaks gradients.",
    judge=lambda e: (
        HOLDS
        if all(outcome != "passes" for outcome in e["in place"].values())
        and all(outcome == "passes" for outcome in e["functional"].values())
        else DEPENDS
        if any(outcome != "passes" for outcome in e["in place"].values())
        else REFUTED
    ),
    because=lambda e: "; ".join(
        f"{kind}: " + ", ".join(f"{name} {outcome}" for name, outcome in outcomes.items())
        for kind, outcomes in e.items()
    ),
    reproduce="""
import tensorflow as tf
x, c = tf.Variable([1.0]), tf.Variable([0.0])
with tf.GradientTape() as tape:
    c.assign(2 * x); loss = tf.reduce_sum(c)
print(tape.gradient(loss, x))  # None, and no error
""",
)
def in_place_breaks_gradients() -> Evidence:
    import tensorflow as tf
    from keras.applications.inception_v3 import preprocess_input

    c = tf.Variable(tf.zeros((2, 3)))

    def value(x: Any) -> Any:
        return x / 127.5 - 1.0

    def assigned(x: Any) -> Any:
        c.assign(value(x))
        return c

    def added(x: Any) -> Any:
        c.assign_add(value(x))
        return c

    def sliced(x: Any) -> Any:
        c[0].assign(value(x)[0])
        return c

    outcomes = {
        "functional": {
            "eager": _gradient(value),
            "tf.function": _gradient(tf.function(value)),
            "XLA": _gradient(tf.function(value, jit_compile=True)),
            "preprocess_input": _gradient(lambda x: preprocess_input(x + 0)),
            "tf.py_function": _gradient(lambda x: tf.py_function(value, [x], tf.float32)),
        },
        "in place": {
            "assign": _gradient(assigned),
            "assign in tf.function": _gradient(tf.function(assigned)),
            "assign_add": _gradient(added),
            "c[0].assign": _gradient(sliced),
        },
        "by NumPy": {
            "tf.numpy_function": _gradient(lambda x: tf.numpy_function(value, [x], tf.float32)),
            "x.numpy()": _gradient(lambda x: tf.constant(value(x.numpy()))),
        },
    }
    try:
        operation = _operation()
    except RuntimeUnavailable as error:
        outcomes["in C++, without a gradient of its own"] = {"the operation": f"not built: {error}"}
    else:
        outcomes["in C++, without a gradient of its own"] = {
            "the operation": _gradient(lambda x: operation(x + 0, x + 0))
        }
    return outcomes


@claim(
    DOCUMENT,
    "The document's program, with tf.assign and a session, runs.",
    judge=lambda e: HOLDS if e["as_written"] == "runs" else REFUTED,
    because=lambda e: (
        f"as written, it {e['as_written']}; with tf.compat.v1.assign and eager execution off, it {e['mended']}"
    ),
    reproduce="""
import tensorflow as tf
c = tf.Variable([0, 0, 0])
tf.assign(c, tf.add([1, 2, 3], [4, 5, 6]))  # AttributeError
""",
)
def the_session_program_runs() -> Evidence:
    import tensorflow as tf

    def program(assign: str) -> None:
        a, b = tf.constant([1, 2, 3], tf.int32), tf.constant([4, 5, 6], tf.int32)
        c = tf.Variable(tf.zeros_like(a), dtype=tf.int32)
        module: Any = tf if assign == "tf" else tf.compat.v1
        update = module.assign(c, tf.add(a, b))
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            result = session.run(update)
        if result.tolist() != [5, 7, 9]:
            raise ArithmeticError(f"gives {result.tolist()}")

    def outcome(assign: str) -> str:
        try:
            program(assign)
        except Exception as error:
            return f"raises {type(error).__name__}"
        return "runs"

    as_written = outcome("tf")
    tf.compat.v1.disable_eager_execution()
    return {"as_written": as_written, "mended": outcome("tf.compat.v1")}


@claim(
    DOCUMENT,
    "The functional tf.add takes more memory than np.add with out=.",
    judge=lambda e: all_or_none([size > e["out"] for size in e["functional"].values()]),
    because=lambda e: (
        f"np.add(a, b, out=c) {probes.batches(e['out'])}; tf.add " + each(e["functional"], probes.batches)
    ),
    reproduce="""
# What each allocates, to the byte:
import subprocess
ways = [word for name in ("numpy-out", "tf-eager", "tf-graph", "tf-xla") for word in ("--variant", name)]
subprocess.run(["copycost", "run", "--recipe", "add", "--batch", "8", "--dtype", "float32", *ways])
""",
)
def the_functional_way_takes_more_memory() -> Evidence:
    import tensorflow as tf

    x, y = _pair()
    c = np.empty_like(x)
    a, b = _tensors()
    graph, compiled = tf.function(tf.add), tf.function(tf.add, jit_compile=True)
    summaries = probes.in_tensorflow(
        {"eager": lambda: tf.add(a, b), "graph": lambda: graph(a, b), "XLA": lambda: compiled(a, b)}
    )
    return {
        "out": probes.in_numpy(lambda: np.add(x, y, out=c)).allocated_bytes,
        "functional": {name: summary.allocated_bytes for name, summary in summaries.items()},
    }


#: Shapes and numbers of additions on which a graph and eager execution are compared.
_SIZES = {
    "one addition of 3 numbers": ((3,), 1),
    "8 additions of 3 numbers": ((3,), 8),
    "8 additions of a batch": (probes.SHAPE, 8),
}


@claim(
    DOCUMENT,
    "A graph is never slower than the same operations one by one.",
    judge=lambda e: (
        REFUTED
        if any(times(e, f"graph, {name}", f"eager, {name}").sure_low > 1 for name in _SIZES)
        else HOLDS
        if all(times(e, f"graph, {name}", f"eager, {name}").sure_high < 1.05 for name in _SIZES)
        else DEPENDS
    ),
    because=lambda e: (
        "seconds of the graph over those of eager: "
        + ", ".join(f"{name} {interval(times(e, f'graph, {name}', f'eager, {name}'))}" for name in _SIZES)
    ),
    reproduce="""
import timeit, tensorflow as tf
x, one = tf.ones(3), lambda x: x + 1.0
graph = tf.function(one)
print(timeit.timeit(lambda: one(x), number=10_000), timeit.timeit(lambda: graph(x), number=10_000))
""",
    blocks=5,
)
def graphs_are_never_slower() -> Evidence:
    import tensorflow as tf

    calls: dict[str, Callable[[], Any]] = {}
    for name, (shape, length) in _SIZES.items():
        x, chain = tf.ones(shape), _chain(length)
        graph = tf.function(chain)
        calls[f"eager, {name}"] = partial(chain, x)
        calls[f"graph, {name}"] = partial(graph, x)
    return {"seconds": probes.seconds(**calls)}

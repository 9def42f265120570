"""Check claims about whether `preprocess_input` changes its input."""

from __future__ import annotations

from typing import Any

import numpy as np

from copycost.engine.compare_arrays import same
from copycost.studies.claims import probes
from copycost.studies.claims.claim import HOLDS, REFUTED, Evidence, all_or_none, claim, each

DOCUMENT = "000_7797cfcd5e643e17.txt"

_FLOATS = ("float16", "float32", "float64")
_DTYPES = ("uint8", *_FLOATS)


def _each_module(dtypes: tuple[str, ...], tensors: bool) -> list[dict[str, Any]]:
    """Call every module's function with an image and a batch of each dtype, in both layouts."""
    import tensorflow as tf

    calls: list[dict[str, Any]] = []
    x: Any
    for name, function in probes.applications().items():
        for dtype in dtypes:
            batch = probes.photographs(dtype, (2, 32, 40, 3))
            first = np.ascontiguousarray(np.moveaxis(batch, -1, 1))
            for pixels, layout in (
                (batch, "channels_last"), (batch[0], "channels_last"),
                (first, "channels_first"), (first[0], "channels_first"),
            ):  # fmt: skip
                x = tf.constant(pixels) if tensors else pixels.copy()
                try:
                    result = function(x, data_format=layout)
                except Exception as error:  # an exception of the library is evidence
                    calls.append({"module": name, "dtype": dtype, "raised": type(error).__name__})
                    continue
                values = np.asarray(memoryview(x)) if tensors else x
                calls.append(
                    {
                        "module": name,
                        "dtype": dtype,
                        "changed": not same(values, pixels),
                        "shares": result is x if tensors else bool(np.shares_memory(result, x)),
                        "looks_equal": bool(np.array_equal(np.asarray(result), values)),
                    }
                )
    return calls


def _count(evidence: Evidence, what: str) -> str:
    """Format how many of the calls have a property, with the number of modules and the dtypes."""
    calls = [call for call in evidence["calls"] if what in call]
    affected = [call for call in calls if call[what]]
    modules = len({call["module"] for call in affected})
    dtypes = sorted({call["dtype"] for call in affected})
    return f"{len(affected)} of {len(calls)} calls" + (f" ({modules} modules; {', '.join(dtypes)})" if affected else "")


@claim(
    DOCUMENT,
    "preprocess_input leaves a NumPy array that it is given as it was.",
    judge=lambda e: all_or_none([not call["changed"] for call in e["calls"] if "changed" in call]),
    because=lambda e: f"changed by {_count(e, 'changed')}; a read-only float32 array: {e['read_only']}",
    reproduce="""
import numpy as np
from keras.applications.vgg16 import preprocess_input
x = np.full((1, 2, 2, 3), 255, np.float32)
preprocess_input(x)
print(x[0, 0, 0])  # not [255. 255. 255.]
""",
)
def arrays_are_left_as_they_were() -> Evidence:
    x = probes.photographs("float32", (2, 32, 40, 3))
    x.flags.writeable = False
    try:
        probes.applications()["vgg16"](x)
        read_only = "accepted"
    except ValueError as error:
        read_only = f"ValueError, {error}"
    return {"calls": _each_module(_DTYPES, tensors=False), "read_only": read_only}


@claim(
    DOCUMENT,
    "preprocess_input returns a new array, never the memory of its input.",
    judge=lambda e: all_or_none([not call["shares"] for call in e["calls"] if "shares" in call]),
    because=lambda e: f"the result is in the input's memory after {_count(e, 'shares')}",
    reproduce="""
import numpy as np
from keras.applications.mobilenet import preprocess_input
x = np.zeros((1, 2, 2, 3), np.float32)
print(preprocess_input(x) is x)  # True
""",
)
def the_result_is_a_new_array() -> Evidence:
    return {"calls": _each_module(_DTYPES, tensors=False)}


@claim(
    DOCUMENT,
    "np.array_equal(image, processed) being False proves that the image was not changed.",
    judge=lambda e: REFUTED if any(c["changed"] and not c["looks_equal"] for c in e["calls"]) else HOLDS,
    because=lambda e: (
        f"of {sum(c['changed'] for c in e['calls'])} calls that changed the image, it is False after "
        f"{sum(c['changed'] and not c['looks_equal'] for c in e['calls'])} and True after "
        f"{sum(c['changed'] and c['looks_equal'] for c in e['calls'])}"
    ),
    reproduce="""
import numpy as np
from keras.applications.vgg16 import preprocess_input
image = np.random.rand(4, 4, 3) * 255
before, processed = image.copy(), preprocess_input(image)
print(np.array_equal(image, processed), np.array_equal(image, before))  # False False
""",
)
def unequal_means_unchanged() -> Evidence:
    return {"calls": [call for call in _each_module(_FLOATS, tensors=False) if "changed" in call]}


@claim(
    DOCUMENT,
    "preprocess_input leaves a tensor that it is given as it was.",
    judge=lambda e: all_or_none([not call["changed"] for call in e["calls"] if "changed" in call]),
    because=lambda e: (
        f"changed by {_count(e, 'changed')}; the result is the same tensor object after {_count(e, 'shares')}; "
        f"{sum('raised' in c for c in e['calls'])} calls raised"
    ),
    reproduce="""
import tensorflow as tf
from keras.applications.vgg16 import preprocess_input
x = tf.fill((1, 2, 2, 3), 255.0)
preprocess_input(x)
print(x[0, 0, 0].numpy())  # [255. 255. 255.]
""",
)
def tensors_are_left_as_they_were() -> Evidence:
    return {"calls": _each_module(_DTYPES, tensors=True)}


@claim(
    DOCUMENT,
    "preprocess_input does the same to an array and to a tensor.",
    judge=lambda e: all_or_none([not result["raised"] and result["off"] <= 1e-3 for result in e["dtypes"].values()]),
    because=lambda e: "; ".join(
        f"{dtype}: differ by up to {result['off']:.2g}, a tensor raises in {result['raised']} of {e['modules']} modules"
        for dtype, result in e["dtypes"].items()
    ),
    reproduce="""
import tensorflow as tf
from keras.applications.vgg16 import preprocess_input
white = tf.fill((1, 2, 2, 3), tf.constant(255, tf.uint8))
print(preprocess_input(white)[0, 0, 0].numpy())  # [152 139 132]
print(preprocess_input(white.numpy())[0, 0, 0])  # [151.061 138.22101 131.32]
""",
)
def arrays_and_tensors_are_alike() -> Evidence:
    import tensorflow as tf

    functions = probes.applications()
    results = {}
    for dtype in ("uint8", "float32", "float64"):
        off, raised = 0.0, 0
        for function in functions.values():
            x = probes.photographs(dtype, (2, 32, 40, 3))
            expected = np.asarray(function(x.copy()), np.float64)
            try:
                off = float(np.maximum(off, np.abs(np.asarray(function(tf.constant(x))) - expected).max()))
            except TypeError:
                raised += 1
        results[dtype] = {"off": off, "raised": raised}
    return {"modules": len(functions), "dtypes": results}


@claim(
    DOCUMENT,
    "NumPy's arrays are immutable unless one asks for something else.",
    runtime="numpy",
    judge=lambda e: all_or_none([not writeable for writeable in e["writeable"].values()]),
    because=lambda e: (
        f"{sum(e['writeable'].values())} of {len(e['writeable'])} kinds of new array can be written to: "
        + ", ".join(name for name, writeable in e["writeable"].items() if writeable)
    ),
    reproduce="""
import numpy as np
x = np.array([1.0, 2.0])
print(x.flags.writeable, (x + 1).flags.writeable, x[:1].flags.writeable)  # True True True
""",
)
def arrays_are_immutable() -> Evidence:
    x = probes.photographs("float32", (2, 8, 8, 3))
    arrays = {
        "np.array": np.array([1.0]),
        "np.zeros": np.zeros(3),
        "a sum": x + 1,
        "a slice": x[0],
        "astype": x.astype(np.float64),
        "np.asarray of a list": np.asarray([1, 2]),
    }
    return {"writeable": {name: bool(array.flags.writeable) for name, array in arrays.items()}}


def _custom(image: np.ndarray, inplace: bool = False) -> np.ndarray:
    """Apply the document's function."""
    if inplace:
        image[:] = image / 255.0
        return image
    return image / 255.0


@claim(
    DOCUMENT,
    "image[:] = image / 255.0 works in place and takes no memory.",
    runtime="numpy",
    judge=lambda e: HOLDS if e["slice"] == 0 else REFUTED,
    because=lambda e: (
        f"it allocates {e['slice']:,} bytes, {e['slice'] / e['image']:.3g} × the image; "
        f"np.divide(image, 255, out=image) {e['out']:,}"
    ),
    reproduce="""
import numpy as np, tracemalloc
image = np.ones((224, 224, 3), np.float32)
tracemalloc.start()
image[:] = image / 255.0
print(tracemalloc.get_traced_memory()[1] / image.nbytes)  # peak: 1.0 × the image
""",
)
def slice_assignment_takes_no_memory() -> Evidence:
    x = probes.photographs("float32")
    divisor = np.float32(255)
    return {
        "image": x.nbytes,
        "slice": probes.in_numpy(lambda: _custom(x, inplace=True)).allocated_bytes,
        "out": probes.in_numpy(lambda: np.divide(x, divisor, out=x)).allocated_bytes,
    }


@claim(
    DOCUMENT,
    "The function with inplace=True gives the same result as with inplace=False.",
    runtime="numpy",
    judge=lambda e: all_or_none([off == 0 for off in e["off"].values()]),
    because=lambda e: (
        "largest difference: "
        + each(e["off"], "{:.2g}".format)
        + f"; from uint8, inplace=True makes only the values {e['values_of_uint8']}"
    ),
    reproduce="""
import numpy as np
image = np.array([0, 100, 255], np.uint8)
out_of_place = image / 255.0
image[:] = image / 255.0
print(image, out_of_place.round(3))  # [0 0 1] [0. 0.392 1.]
""",
)
def inplace_gives_the_same() -> Evidence:
    off, values = {}, []
    for dtype in _DTYPES:
        x = probes.photographs(dtype, (2, 32, 40, 3))
        copy = _custom(x.copy(), inplace=False)
        in_place = _custom(x, inplace=True)
        off[dtype] = float(np.abs(copy.astype(np.float64) - in_place).max())
        if dtype == "uint8":
            values = sorted(set(in_place.ravel().tolist()))
    return {"off": off, "values_of_uint8": values}


@claim(
    DOCUMENT,
    "The array that the function with inplace=True returns is another one than it was given.",
    runtime="numpy",
    judge=lambda e: REFUTED if e["same_object"] else HOLDS,
    because=lambda e: f"returned the array itself: {e['same_object']}; same memory: {e['same_memory']}",
    reproduce="""
import numpy as np
def preprocess(image):
    image[:] = image / 255.0
    return image
image = np.ones(3); print(preprocess(image) is image)  # True
""",
)
def inplace_returns_another_array() -> Evidence:
    x = probes.photographs("float32", (2, 32, 40, 3))
    result = _custom(x, inplace=True)
    return {"same_object": result is x, "same_memory": bool(np.shares_memory(result, x))}


def _ways_of_changing(x: np.ndarray) -> dict[str, bool]:
    """Return, for common ways of writing x − 1, whether they change x."""
    changes = {}
    for name, way in {
        "x - 1": lambda y: y - 1,
        "np.subtract(x, 1)": lambda y: np.subtract(y, 1),
        "y = x; y -= 1": lambda y: y.__isub__(1),
        "np.asarray(x) -= 1": lambda y: np.asarray(y).__isub__(1),
        "x.astype(x.dtype, copy=False) -= 1": lambda y: y.astype(y.dtype, copy=False).__isub__(1),
        "x.copy() -= 1": lambda y: y.copy().__isub__(1),
        "x.reshape(-1) -= 1": lambda y: y.reshape(-1).__isub__(1),
    }.items():
        y = x.copy()
        way(y)
        changes[name] = not same(x, y)
    return changes


@claim(
    DOCUMENT,
    "A function that takes and returns an array leaves it alone unless it uses out=.",
    runtime="numpy",
    judge=lambda e: REFUTED if any(e["changed"].values()) else HOLDS,
    because=lambda e: "changed, without out=, by " + "; ".join(n for n, changed in e["changed"].items() if changed),
    reproduce="""
import numpy as np
x = np.ones(3)
y = np.asarray(x)
y -= 1
print(x)  # [0. 0. 0.]
""",
)
def only_out_changes_an_array() -> Evidence:
    return {"changed": _ways_of_changing(probes.photographs("float32", (2, 32, 40, 3)))}

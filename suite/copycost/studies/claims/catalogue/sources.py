"""Check claims about where `preprocess_input` is defined, which models share it, and custom functions instead of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from copycost.cases import images
from copycost.engine.compare_arrays import same
from copycost.machine import devices
from copycost.recipes import tf as tf_reference
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
)
from copycost.studies.pipelines.measure import measure
from copycost.studies.pipelines.ways import WAYS

DOCUMENT = "001_c67bb3ae6f98c16c.txt"
_ON_PIPELINES = "002_eb0676d81cff0efb.txt"

#: Number of files on which pipelines are timed (fewer than in `copycost pipelines`), batch size and number of blocks.
_FILES, _BATCH, _BLOCKS = 64, 16, 4

_DTYPES = ("uint8", "float32", "float64")


def _results(function: Any) -> list[np.ndarray]:
    """Return a function's results for a batch of each dtype."""
    return [np.ascontiguousarray(function(probes.photographs(dtype, (2, 32, 40, 3)))) for dtype in _DTYPES]


def _alike(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(map(same, first, second))


def _kinds() -> dict[str, list[str]]:
    """Group the modules whose functions give equal bits, by the name of the first module."""
    kinds: list[tuple[list[str], list[np.ndarray]]] = []
    for name, function in probes.applications().items():
        results = _results(function)
        for names, group in kinds:
            if _alike(results, group):
                names.append(name)
                break
        else:
            kinds.append(([name], results))
    return {names[0]: names for names, _ in kinds}


@claim(
    DOCUMENT,
    "Keras has no central preprocess_input that models share.",
    judge=lambda e: REFUTED if e["shared"] else HOLDS,
    because=lambda e: (
        f"the functions of {sum(map(len, e['shared'].values()))} of {e['modules']} modules give, to the bit, what "
        "keras.applications.imagenet_utils.preprocess_input gives: "
        + "; ".join(f"mode {mode}: {', '.join(names)}" for mode, names in e["shared"].items())
    ),
    reproduce="""
import numpy as np
from keras.applications import imagenet_utils, vgg16
x = np.random.rand(1, 4, 4, 3)
print(np.array_equal(vgg16.preprocess_input(x.copy()), imagenet_utils.preprocess_input(x.copy())))  # True
""",
)
def there_is_no_central_function() -> Evidence:
    from keras.applications.imagenet_utils import preprocess_input

    functions = probes.applications()
    shared = {}
    for mode in ("caffe", "tf", "torch"):
        central = _results(lambda x, mode=mode: preprocess_input(x, mode=mode))
        names = [name for name, function in functions.items() if _alike(_results(function), central)]
        if names:
            shared[mode] = names
    return {"modules": len(functions), "shared": shared}


@claim(
    DOCUMENT,
    "VGG16's preprocess_input is the wrong one for ResNet50.",
    judge=lambda e: REFUTED if e["alike"] else HOLDS,
    because=lambda e: (
        f"on {', '.join(_DTYPES)} they give {'equal' if e['alike'] else 'different'} bits; "
        f"largest difference {e['off']:.2g}"
    ),
    reproduce="""
import numpy as np
from keras.applications import resnet50, vgg16
x = np.random.rand(1, 4, 4, 3) * 255
print(np.array_equal(vgg16.preprocess_input(x.copy()), resnet50.preprocess_input(x.copy())))  # True
""",
)
def the_function_of_vgg16_is_wrong_for_resnet50() -> Evidence:
    functions = probes.applications()
    vgg, resnet = _results(functions["vgg16"]), _results(functions["resnet50"])
    off = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(vgg, resnet, strict=True))
    return {"alike": _alike(vgg, resnet), "off": off}


@claim(
    DOCUMENT,
    "Every model has a preprocess_input of its own, which no other could use.",
    judge=lambda e: HOLDS if len(e["kinds"]) == e["modules"] else REFUTED,
    because=lambda e: (
        f"{e['modules']} modules have {len(e['kinds'])} functions with different results: "
        + "; ".join(", ".join(names) for names in e["kinds"].values())
    ),
    reproduce="""
import numpy as np
from keras.applications import densenet, mobilenet, nasnet, xception
x = np.random.rand(1, 4, 4, 3) * 255
for module in (densenet, mobilenet, nasnet, xception):
    print(module.__name__, module.preprocess_input(x.copy())[0, 0, 0])  # the last three are alike
""",
)
def every_model_has_a_function_of_its_own() -> Evidence:
    kinds = _kinds()
    return {"modules": sum(map(len, kinds.values())), "kinds": kinds}


@claim(
    DOCUMENT,
    "A model's preprocess_input brings images into the range that its layers expect.",
    judge=lambda e: all_or_none([name not in e["unchanged"] for name in e["modules"]]),
    because=lambda e: (
        f"those of {len(e['unchanged'])} of {len(e['modules'])} modules return their input unchanged "
        f"({', '.join(e['unchanged'])})"
    ),
    reproduce="""
import numpy as np
from keras.applications.efficientnet import preprocess_input
x = np.random.rand(1, 4, 4, 3) * 255
print(preprocess_input(x) is x)  # True
""",
)
def every_function_does_something() -> Evidence:
    functions = probes.applications()
    x = probes.photographs("float32", (2, 32, 40, 3))
    unchanged = [name for name, function in functions.items() if same(np.ascontiguousarray(function(x.copy())), x)]
    return {"modules": list(functions), "unchanged": unchanged}


def _custom(image: Any) -> Any:
    """Apply the document's function."""
    import tensorflow as tf

    return tf.image.resize(image, (256, 256)) / 127.5 - 1


@claim(
    DOCUMENT,
    "Resized to 256×256, over 127.5 and less 1, pixels lie between −1 and 1.",
    judge=lambda e: HOLDS if e["low"] >= -1 and e["high"] <= 1 else REFUTED,
    because=lambda e: f"black and white become {e['low']:.6g} and {e['high']:.6g}, in {e['dtype']}",
    reproduce="""
import tensorflow as tf
x = tf.constant([[[0], [255]], [[255], [0]]], tf.uint8)
y = tf.image.resize(x, (256, 256)) / 127.5 - 1
print(tf.reduce_min(y).numpy(), tf.reduce_max(y).numpy())  # -1.0 1.0
""",
)
def the_custom_function_gives_minus_one_to_one() -> Evidence:
    import tensorflow as tf

    board = np.zeros((1, 64, 48, 3), np.uint8)
    board[:, ::2] = 255
    y = _custom(tf.constant(board))
    return {"low": float(tf.reduce_min(y)), "high": float(tf.reduce_max(y)), "dtype": y.dtype.name}


def _within(evidence: Evidence) -> str:
    """Return whether every difference is within the allowed error, as a verdict."""
    return HOLDS if max(evidence["off"].values()) <= evidence["allowed"] else REFUTED


@claim(
    DOCUMENT,
    "Keras' layers do what a function of one's own does.",
    judge=_within,
    because=lambda e: (
        "Resizing and Rescaling against the function, largest difference: "
        + each(e["off"], "{:.2g}".format)
        + f" ({e['allowed']:.2g} is what float32 allows)"
    ),
    reproduce="""
import keras, tensorflow as tf
x = tf.random.uniform((1, 300, 400, 3), maxval=255)
layers = keras.Sequential([keras.layers.Resizing(256, 256), keras.layers.Rescaling(1 / 127.5, offset=-1)])
print(float(tf.reduce_max(abs(layers(x) - (tf.image.resize(x, (256, 256)) / 127.5 - 1)))))  # about 1e-7
""",
)
def layers_do_what_a_function_does() -> Evidence:
    import keras
    import tensorflow as tf

    layers = keras.Sequential([keras.layers.Resizing(256, 256), keras.layers.Rescaling(1 / 127.5, offset=-1)])
    off = {}
    for dtype in ("uint8", "float32"):
        x = tf.constant(probes.photographs(dtype, (2, 96, 128, 3)))
        off[dtype] = float(tf.reduce_max(abs(layers(x) - _custom(x))))
    return {"off": off, "allowed": 8 * float(np.finfo(np.float32).eps) * 2}


def _pipelines(*names: str) -> dict[str, list[list[float]]]:
    """Return the seconds per epoch of each pipeline, by name and block."""
    results, _ = measure(
        [WAYS[name] for name in names], images.read(), number=_FILES, batch=_BATCH, blocks=_BLOCKS,
        threads=devices.cpus(), traced=False,
    )  # fmt: skip
    for result in results:
        if result.status != "ok":
            raise RuntimeError(f"{result.name}: {result.status}, {result.reason}")
    return {result.name: [list(block) for block in result.samples] for result in results}


def _rates(evidence: Evidence) -> str:
    medians = {
        name: float(np.median([np.median(block) for block in blocks])) for name, blocks in evidence["seconds"].items()
    }
    return ", ".join(f"{name} {_FILES / seconds:.0f} images/s" for name, seconds in medians.items())


@claim(
    DOCUMENT,
    "tf.py_function takes a function of one's own into tf.data without a seam.",
    judge=lambda e: (
        REFUTED
        if e["shape"] is None or times(e, "tf-py-function", "tf-map").sure_low > 1
        else HOLDS
        if times(e, "tf-py-function", "tf-map").sure_high < 1.1
        else DEPENDS
    ),
    because=lambda e: (
        f"the static shape of its result is {'lost' if e['shape'] is None else e['shape']}; an epoch takes "
        f"{interval(times(e, 'tf-py-function', 'tf-map'))} the time of the same operations in map ({_rates(e)})"
    ),
    reproduce="""
import tensorflow as tf
data = tf.data.Dataset.from_tensor_slices(tf.zeros((4, 8, 8, 3)))
data = data.map(lambda x: tf.py_function(lambda y: y / 127.5 - 1, [x], tf.float32))
print(data.element_spec.shape)  # <unknown>
""",
    blocks=1,
)
def py_function_has_no_seam() -> Evidence:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(tf.zeros((4, 8, 8, 3)))
    shape = data.map(lambda x: tf.py_function(_custom, [x], tf.float32)).element_spec.shape
    return {"shape": None if shape.rank is None else list(shape), "seconds": _pipelines("tf-map", "tf-py-function")}


@claim(
    _ON_PIPELINES,
    "tf.data is the efficient way to preprocess images.",
    judge=lambda e: faster([times(e, name, "loop") for name in e["seconds"] if name != "loop"]),
    because=lambda e: (
        "seconds of an epoch over those of a loop with Pillow and NumPy: "
        + ", ".join(f"{name} {interval(times(e, name, 'loop'))}" for name in e["seconds"] if name != "loop")
        + f" ({_rates(e)})"
    ),
    reproduce="""
# Files, a loop and pipelines of them are more than five lines; this measures them all:
import subprocess
subprocess.run("copycost pipelines tf-map tf-numpy-function tf-map-parallel-prefetch", shell=True)
""",
    blocks=1,
)
def tf_data_is_the_efficient_way() -> Evidence:
    return {"seconds": _pipelines("loop", "tf-map", "tf-numpy-function", "tf-map-parallel-prefetch")}


@claim(
    DOCUMENT,
    "A preprocess_input gives what its formula says.",
    judge=_within,
    because=lambda e: (
        "InceptionV3's against x / 127.5 − 1 in float64, largest difference: "
        + each(e["off"], "{:.2g}".format)
        + f" ({e['allowed']:.2g} allowed)"
    ),
    reproduce="""
import numpy as np
from keras.applications.inception_v3 import preprocess_input
x = np.random.rand(1, 4, 4, 3) * 255
print(abs(preprocess_input(x.copy()) - (x / 127.5 - 1)).max())  # 0.0
""",
)
def the_formula_is_what_is_computed() -> Evidence:
    from keras.applications.inception_v3 import preprocess_input

    off = {}
    for dtype in ("uint8", "float32", "float64"):
        x = probes.photographs(dtype, (2, 32, 40, 3))
        expected = tf_reference(x.astype(np.float64))
        off[dtype] = float(np.abs(preprocess_input(x) - expected).max())
    return {"off": off, "allowed": 8 * float(np.finfo(np.float32).eps) * 2}

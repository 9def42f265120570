"""Which wrong constants are found: each constant of each recipe, moved by a few units in its last place.

    python docs/examples/tolerance.py

prints the table of docs/explanation/truth.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from copycost import registry
from copycost.cases import images
from copycost.catalog import discovery
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.recipes import CAFFE_MEAN, TORCH_MEAN, TORCH_STD

#: By how many units in the last place of the dtype.
STEPS = (1, 2, 5, 10)

#: Recipe → its formula in the dtype of its input and constants, and the constants.
FORMULAS: dict[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "caffe": (lambda x, *mean: x[..., ::-1] - np.array(mean), CAFFE_MEAN),
    "tf": (lambda x, scale, one: x / scale - one, (127.5, 1.0)),
    "torch": (lambda x, scale, *c: (x / scale - np.array(c[:3])) / np.array(c[3:]), (255.0, *TORCH_MEAN, *TORCH_STD)),
    "scale": (lambda x, scale: x / scale, (255.0,)),
}


def mutated(constants: tuple[float, ...], dtype: np.dtype, steps: int) -> Iterator[list[np.floating]]:
    """The constants in a dtype, with one of them so many units in the last place larger, or smaller."""
    for i in range(len(constants)):
        for direction in (-np.inf, np.inf):
            constants_moved = [dtype.type(c) for c in constants]
            for _ in range(steps):
                constants_moved[i] = np.nextafter(constants_moved[i], dtype.type(direction))
            yield constants_moved


def found(recipe: str, dtype: str, steps: int) -> tuple[int, int]:
    """How many wrong constants are found, and how many there are."""
    discovery.load_shipped()
    formula, constants = FORMULAS[recipe]
    reference = registry.recipes[recipe].reference
    assert reference is not None
    x = images.batch(images.read(), (2, 224, 224), dtype, "channels_last", 0)
    to = np.dtype("float32" if dtype == "uint8" else dtype)
    (right,) = refer(reference, [x], "channels_last", to)
    wrong = [
        judge(formula(x.astype(to), *values), right, to, ulp=False).reason for values in mutated(constants, to, steps)
    ]
    return sum(reason is not None for reason in wrong), len(wrong)


if __name__ == "__main__":
    print("| recipe | input | " + " | ".join(f"{n} ulp" for n in STEPS) + " |")
    print("| --- | --- |" + " ---: |" * len(STEPS))
    for recipe in FORMULAS:
        for dtype in ("uint8", "float16", "float32", "float64"):
            cells = ["{} of {}".format(*found(recipe, dtype, n)) for n in STEPS]
            print(f"| `{recipe}` | {dtype} | " + " | ".join(cells) + " |")

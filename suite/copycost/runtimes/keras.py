"""Define the Keras runtime, for Keras' `preprocess_input` on NumPy arrays."""

from __future__ import annotations

import dataclasses

from copycost.runtimes import numpy

#: The function takes and returns NumPy arrays; only the imported packages differ.
RUNTIME = dataclasses.replace(
    numpy.RUNTIME,
    name="keras",
    packages=("keras", "keras.applications.imagenet_utils"),
    install="pip install -e '.[tensorflow]' in a clone of copycost",
)

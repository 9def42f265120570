"""Keras' own `preprocess_input`, imported and not copied, on NumPy arrays and on tensors."""

from __future__ import annotations

import dataclasses

from copycost.runtimes import numpy

#: The function takes and gives NumPy arrays; only what must be imported differs.
RUNTIME = dataclasses.replace(
    numpy.RUNTIME,
    name="keras",
    packages=("keras", "keras.applications.imagenet_utils"),
    install="pip install 'copycost[tensorflow]'",
)

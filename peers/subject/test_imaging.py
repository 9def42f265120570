"""The four functions as pytest-benchmark measures them."""

import imaging
import numpy as np
import pytest


@pytest.fixture(params=[1, 4, 16])
def x(request):
    return np.random.default_rng(0).uniform(0, 255, (request.param, 224, 224, 3)).astype(np.float32)


def test_rescale(benchmark, x):
    benchmark(imaging.rescale, x)


def test_rescale_out(benchmark, x):
    benchmark(imaging.rescale_out, x, np.empty_like(x))


def test_normalize(benchmark, x):
    benchmark(imaging.normalize, x)


def test_center(benchmark, x):
    benchmark(imaging.center, x)

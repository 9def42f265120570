import numpy as np
import pytest


@pytest.fixture
def image():
    return np.ones((8, 64, 64, 3), np.float32)


@pytest.mark.copycost(max_bytes=100_000, max_copies=0, unchanged=True)
def test_the_mean_of_an_image_needs_no_copy(image):
    assert image.mean() == 1

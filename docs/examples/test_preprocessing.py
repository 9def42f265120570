import numpy as np


def normalise(x, out):
    np.subtract(x, np.float32(120), out=out)
    np.divide(out, np.float32(60), out=out)
    return out


def test_normalise_allocates_nothing_and_leaves_its_input_alone(copycost):
    x = np.ones((8, 64, 64, 3), np.float32)
    m = copycost(normalise, x, reference=lambda x: (x - 120) / 60, out=np.empty_like(x))
    assert m.status == "ok", m
    assert m.allocated_bytes == 0
    assert not m.input_changed

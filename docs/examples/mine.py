import numpy as np

from copycost import formula, recipe, variant

MEAN, STD, CROP = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0), slice(16, -16)


@recipe(name="mine")
@formula(recipe="mine", constants=(MEAN, STD))
def mine(x, mean=MEAN, std=STD):
    return (x[..., CROP, CROP, :] - mean) / std


@variant(recipe="mine", runtime="numpy", writes="out", layouts="channels_last")
def numpy_out(example):
    mean, std = np.float32(MEAN), np.float32(STD)
    return lambda x, out: np.divide(np.subtract(x[..., CROP, CROP, :], mean, out=out), std, out=out)

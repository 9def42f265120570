"""The four functions as copycost measures them."""

import numpy as np

from copycost import recipe, variant


@recipe("peers.rescale")
def rescale_reference(x):
    return x / 127.5 - 1


@recipe("peers.normalize")
def normalize_reference(x):
    return (x - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]


@recipe("peers.center")
def center_reference(x):
    return x[..., ::-1] - np.array([103.939, 116.779, 123.68])


@variant(recipe="peers.rescale", runtime="numpy", writes="new", accepts="float32")
def rescale(example):
    import imaging

    return imaging.rescale


@variant(recipe="peers.rescale", runtime="numpy", writes="out", accepts="float32")
def rescale_out(example):
    import imaging

    return imaging.rescale_out


@variant(recipe="peers.normalize", runtime="numpy", writes="new", accepts="float32")
def normalize(example):
    import imaging

    return imaging.normalize


@variant(recipe="peers.center", runtime="numpy", writes="new", accepts="float32")
def center(example):
    import imaging

    return imaging.center

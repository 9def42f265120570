"""A call that does nothing, to see what measuring a call costs. See docs/explanation/methodology.md."""

from copycost import recipe, variant


@recipe(name="identity")
def identity(x):
    return x


@variant(recipe="identity", runtime="numpy", writes="new")
def empty(example):
    return lambda x: x


@variant(recipe="identity", runtime="tensorflow", writes="new", devices=("cpu",))
def empty_tensor(example):
    return lambda x: x

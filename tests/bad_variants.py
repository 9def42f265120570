"""Variants with one fault each, and a good one beside them. Passed by `--with` in the tests."""

import os
import signal
import threading
import time

import numpy as np

from copycost import variant


def right(x):
    return x.astype(np.float32) / np.float32(127.5) - np.float32(1)


@variant(recipe="tf", runtime="numpy", writes="new")
def good(example):
    return right


@variant(recipe="tf", runtime="numpy", writes="out")
def good_out(example):
    def call(x, out):
        np.multiply(x, np.float32(1 / 127.5), out=out)
        np.subtract(out, np.float32(1), out=out)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def wrong_constant(example):
    return lambda x: x.astype(np.float32) / np.float32(128) - np.float32(1)


@variant(recipe="tf", runtime="numpy", writes="new")
def wrong_last_pixel(example):
    def call(x):
        y = right(x)
        y[..., -1, -1, -1] += 0.001
        return y

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def changes_input(example):
    def call(x):
        y = right(x)
        x[..., 0, 0, 0] += 1
        return y

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def returns_float64(example):
    return lambda x: x / 127.5 - 1.0


@variant(recipe="tf", runtime="numpy", writes="new")
def first_answer(example):
    answers = []

    def call(x):
        if not answers:
            answers.append(right(x))
        return answers[0]

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def answer_by_array(example):
    answers = {}

    def call(x):
        if id(x) not in answers:
            answers[id(x)] = x, right(x)
        return answers[id(x)][1]

    return call


@variant(recipe="tf", runtime="numpy", writes="out")
def answers_early(example):
    def later(x, out):
        time.sleep(0.05)
        np.copyto(out, right(x))

    def call(x, out):
        threading.Thread(target=later, args=(x.copy(), out)).start()
        return out

    return call


@variant(recipe="tf", runtime="numpy", writes="out")
def ignores_buffer(example):
    return lambda x, out: right(x)


@variant(recipe="tf", runtime="numpy", writes="new")
def raises_on_seventh(example):
    calls = []

    def call(x):
        calls.append(1)
        if len(calls) == 7:
            raise ValueError("seven is\none too many")
        return right(x)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def raises_later(example):
    calls = []

    def call(x):
        calls.append(1)
        if len(calls) > 200:
            raise ValueError("enough")
        return right(x)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def exits(example):
    return lambda x: os._exit(3)


@variant(recipe="tf", runtime="numpy", writes="new")
def leaves(example):
    def call(x):
        raise SystemExit(0)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def segfaults(example):
    return lambda x: os.kill(os.getpid(), signal.SIGSEGV)


@variant(recipe="tf", runtime="numpy", writes="new")
def sleeps(example):
    return lambda x: time.sleep(1e6)


@variant(recipe="tf", runtime="numpy", writes="new")
def sleeps_while_preparing(example):
    time.sleep(1e6)


@variant(recipe="tf", runtime="numpy", writes="new")
def prints(example):
    def call(x):
        print("{not json")
        os.write(1, b"nor this\n")
        return right(x)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def allocates_in_a_loop(example):
    def call(x):
        for _ in range(10):
            np.empty(1_000_003, np.uint8)
        return right(x)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def keeps_copies(example):
    kept = []

    def call(x):
        kept.append(x.copy())
        return right(x)

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def returns_a_list(example):
    return lambda x: [1.0]


@variant(recipe="tf", runtime="numpy", writes="new")
def returns_another_shape(example):
    return lambda x: right(x)[..., :2]


@variant(recipe="tf", runtime="numpy", writes="new")
def returns_nan(example):
    def call(x):
        y = right(x)
        y.flat[7] = np.nan
        return y

    return call


@variant(recipe="tf", runtime="numpy", writes="new")
def is_no_function(example):
    return None


@variant(recipe="tf", runtime="numpy", writes="new", accepts=("uint8",))
def lookup(example):
    table = (np.arange(256) / 127.5 - 1).astype(np.float32)
    return lambda x: table[x]


@variant(recipe="tf", runtime="numpy", writes="new")
def dies_traced(example):
    calls = []

    def call(x):
        calls.append(1)
        if len(calls) == 22:
            os._exit(5)
        return right(x)

    return call

"""Ways of cheating a benchmark, each as a variant of recipe tf. Passed by `--with` in the tests.

Each is a way in which a published harness was, or could have been, fooled: it answers faster than it computes, or with
less than was asked for. `CAUGHT` in test_cheats.py says by what each is found.
"""

import hashlib
import itertools
import sys
import threading
import time

import numpy as np

from copycost import variant

SCALE, ONE = np.float32(127.5), np.float32(1)


def right(x):
    y = x.astype(np.float32)
    y /= SCALE
    y -= ONE
    return y


def slowly(x):
    """The right answer, in a time that an answer from memory saves most of."""
    for _ in range(100):
        y = right(x)
    return y


def cheat(writes="new", accepts=("float32",)):
    return variant(recipe="tf", runtime="numpy", writes=writes, accepts=accepts)


def remembering(key):
    """Answers kept by a key of the input; a copy is given, so that nobody spoils them."""

    def prepare(example):
        answers = {}

        def call(x):
            name = key(x)
            if name not in answers:
                answers[name] = slowly(x)
            return answers[name].copy()

        return call

    return prepare


# Answers that are remembered.


@cheat()
def memo_by_identity(example):
    return remembering(id)(example)


@cheat()
def memo_by_address(example):
    return remembering(lambda x: x.ctypes.data)(example)


@cheat()
def memo_by_shape(example):
    return remembering(lambda x: x.shape)(example)


@cheat()
def memo_by_first_elements(example):
    return remembering(lambda x: (x.shape, *x.reshape(-1)[:3].tolist()))(example)


@cheat()
def memo_by_three_elements(example):
    def three(x):
        flat = x.reshape(-1)
        return x.shape, float(flat[0]), float(flat[flat.size // 2]), float(flat[-1])

    return remembering(three)(example)


@cheat()
def memo_by_strided_sample(example):
    return remembering(lambda x: x.reshape(-1)[::1999].tobytes())(example)


@cheat()
def memo_by_sum(example):
    return remembering(lambda x: float(x.sum(dtype=np.float64)))(example)


@cheat()
def memo_by_extremes_and_mean(example):
    return remembering(lambda x: (float(x.min()), float(x.max()), float(x.mean(dtype=np.float64))))(example)


@cheat()
def memo_by_histogram(example):
    return remembering(lambda x: np.histogram(x, 32, (0, 256))[0].tobytes())(example)


@cheat()
def memo_by_hash_of_all_bytes(example):
    return remembering(lambda x: hashlib.blake2b(x.tobytes(), digest_size=8).digest())(example)


@cheat()
def memo_by_all_bytes(example):
    return remembering(lambda x: x.tobytes())(example)


@cheat()
def memo_that_gives_the_array_itself(example):
    answers = {}

    def call(x):
        name = x.tobytes()
        if name not in answers:
            answers[name] = right(x)
        return answers[name]

    return call


@cheat(writes="out")
def memo_into_the_buffer(example):
    answers = {}

    def call(x, out):
        name = x.shape, float(x.reshape(-1)[0]), float(x.reshape(-1)[-1])
        if name not in answers:
            answers[name] = slowly(x)
        np.copyto(out, answers[name])

    return call


@cheat(writes="out")
def leaves_the_last_answer_in_the_buffer(example):
    done = set()

    def call(x, out):
        if id(out) not in done:
            done.add(id(out))
            np.copyto(out, right(x))

    return call


@cheat()
def answer_of_the_previous_call(example):
    before = [right(example)]

    def call(x):
        answer = before.pop()
        before.append(right(x))
        return answer

    return call


@cheat()
def computed_while_preparing(example):
    answer = right(example)
    return lambda x: answer.copy()


@cheat()
def one_buffer_for_all_answers(example):
    y = np.empty(example.shape, np.float32)

    def call(x):
        np.divide(x, SCALE, out=y)
        return np.subtract(y, ONE, out=y)

    return call


# Work that is put off.


@cheat()
def computed_by_another_thread(example):
    def call(x):
        y = np.empty(x.shape, np.float32)

        def later():
            time.sleep(0.002)
            np.copyto(y, right(x))

        threading.Thread(target=later).start()
        return y

    return call


@cheat()
def computed_when_looked_at(example):
    class Later(np.ndarray):
        def __array_finalize__(self, made_from):
            source = getattr(made_from, "source", None)
            if source is not None:
                np.copyto(np.ndarray.view(made_from, np.ndarray), right(source))

    def call(x):
        y = np.empty(x.shape, np.float32).view(Later)
        y.fill(9)
        y.source = x
        return y

    return call


@cheat()
def a_generator_of_answers(example):
    return lambda x: (right(x) for _ in range(1))


@cheat()
def a_view_that_is_filled_by_the_next_call(example):
    waiting = []

    def call(x):
        for y, source in waiting:
            np.copyto(y, right(source))
        waiting.clear()
        y = np.zeros(x.shape, np.float32)
        waiting.append((y, x))
        return y

    return call


# Less than was asked for.


@cheat()
def half_precision(example):
    return lambda x: (x.astype(np.float16) / np.float16(127.5) - np.float16(1)).astype(np.float32)


@cheat()
def bfloat16_constants(example):
    scale = (np.array(1 / 127.5, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return lambda x: x * scale - ONE


@cheat()
def rounded_to_a_table(example):
    table = (np.arange(256) / 127.5 - 1).astype(np.float32)
    return lambda x: table[x.astype(np.uint8)]


@cheat()
def a_constant_a_little_off(example):
    return lambda x: x / np.float32(127.5 * (1 + 1e-6)) - ONE


@cheat()
def zeros_near_zero(example):
    def call(x):
        y = right(x)
        y[np.abs(y) < 5e-3] = 0
        return y

    return call


@cheat()
def only_the_first_image(example):
    def call(x):
        return np.concatenate([right(x[:1])] * len(x))

    return call


@cheat()
def only_every_other_row(example):
    def call(x):
        y = np.empty(x.shape, np.float32)
        y[:, ::2] = right(x[:, ::2])
        y[:, 1::2] = y[:, ::2]
        return y

    return call


@cheat()
def not_a_number_passes(example):
    return lambda x: np.full(x.shape, np.nan, np.float32)


@cheat()
def zeros(example):
    return lambda x: np.zeros(x.shape, np.float32)


@cheat()
def nothing_is_written(example):
    return lambda x: np.empty(x.shape, np.float32)


@cheat()
def the_input_itself(example):
    return lambda x: x


# Who is asking?


@cheat()
def honest_for_some_calls(example):
    calls = itertools.count()
    answer = right(example)
    return lambda x: right(x) if next(calls) < 45 else answer.copy()


@cheat()
def honest_when_audited(example):
    answer = right(example)

    def call(x):
        return answer.copy() if sys._getframe(1).f_code.co_name == "batched" else right(x)

    return call


@cheat()
def honest_by_the_stacks_of_all_threads(example):
    answer = right(example)

    def call(x):
        names = set()
        for frame in sys._current_frames().values():
            while frame is not None:
                names.add(frame.f_code.co_name)
                frame = frame.f_back
        return answer.copy() if "batched" in names else right(x)

    return call


@cheat()
def another_clock(example):
    from copycost.engine import clock

    own = clock.perf_counter_ns
    start = own()
    clock.perf_counter_ns = lambda: start + (own() - start) // 10
    return right


@cheat()
def another_clock_for_everybody(example):
    own = time.perf_counter_ns
    start = own()
    time.perf_counter_ns = time.perf_counter = lambda: start + (own() - start) // 10
    return right


@cheat()
def another_loop_around_the_clock(example):
    from copycost.engine import clock

    def batched(call, inputs, out, n, fence):
        return n, call(inputs[(n - 1) % len(inputs)])

    clock.batched.__code__ = batched.__code__
    return right

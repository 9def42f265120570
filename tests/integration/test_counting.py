"""`copycost.count` and the magics: any call, any arrays, in this process."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import copycost
from copycost_meter.call_count import CallCount

N = 1_000_000  # bytes
Pair = namedtuple("Pair", "image mask")


def floats() -> np.ndarray:
    return np.arange(N // 4, dtype=np.float32).reshape(-1, 50)


#: A call, its arguments, and what it is known to do: requests, their bytes, the peak, what is retained and what is as
#: large as the largest input.
ORACLES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[int, int, int, int, int]]] = {
    "a sum": (lambda x: x + np.float32(1), (floats(),), (1, N, N, N, 1)),
    "into a buffer": (lambda x, y: np.add(x, y, out=y), (floats(), floats()), (0, 0, 0, 0, 0)),
    "two steps": (lambda x: np.sqrt(x + np.float32(1)), (floats(),), (2, 2 * N, 2 * N, N, 2)),
    "every second row": (lambda x: x[::2].copy(), (floats(),), (1, N // 2, N // 2, N // 2, 0)),
    "a view": (lambda x: x[::2], (floats(),), (0, 0, 0, 0, 0)),
    "to float64": (lambda x: x.astype(np.float64), (floats(),), (1, 2 * N, 2 * N, 2 * N, 1)),
    "a temporary that is dropped": (lambda x: float((x * x).sum()), (floats(),), (1, N, N, 0, 1)),
    "one image": (lambda x: np.flip(x, 1).copy(), (np.zeros((100, 100, 25), np.float32),), (1, N, N, N, 1)),
    "five channels of uint8": (lambda x: x // 2, (np.zeros((40, 5000, 5), np.uint8),), (1, N, N, N, 1)),
    "a list of images": (
        lambda xs: [x * np.float32(2) for x in xs],
        ([np.ones((250, 500), np.float32), np.ones((125, 1000), np.float32)],),
        (2, N, N, N, 2),
    ),
    "complex": (lambda x: x.conj(), (np.zeros(N // 16, np.complex128),), (1, N, N, N, 1)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_allocations_of_any_arrays(name: str) -> None:
    call, arguments, known = ORACLES[name]
    c = copycost.count(call, *arguments)
    assert (c.allocations, c.allocated_bytes, c.peak_bytes, c.retained_bytes, c.copies) == known, c
    assert c.kept_bytes == 0
    assert c.missing is None
    assert c.changed == (("y",) if name == "into a buffer" else ())


def test_changed_arrays_are_named_and_those_of_the_caller_stay() -> None:
    x, batch = floats(), {"image": floats(), "more": [floats(), floats()]}
    pair, ordered = Pair(floats(), floats()), OrderedDict(a=floats())

    def call(x: np.ndarray, batch: dict, pair: Pair, ordered: OrderedDict, *, scale: np.ndarray) -> None:
        x += 1
        batch["more"][1][0, 0] = -1
        pair.mask[...] = 0
        ordered["a"] *= 2

    c = copycost.count(call, x, batch, pair, ordered=ordered, scale=np.ones(3))
    assert c.changed == ("x", "batch['more'][1]", "pair[1]", "ordered['a']")
    for array in (x, batch["image"], *batch["more"], *pair, ordered["a"]):
        assert np.array_equal(array, floats())


def test_an_array_that_is_given_twice_is_one_array() -> None:
    x = floats()
    assert copycost.count(lambda a, b: a is b and a.__iadd__(1), x, x).changed == ("a", "b")


def test_strides_and_what_cannot_be_written_to_are_kept() -> None:
    turned = floats().T
    turned.flags.writeable = False
    seen: list[tuple[Any, bool]] = []
    copycost.count(lambda x: seen.append((x.strides, x.flags.writeable)), turned)
    assert set(seen) == {(turned.strides, False)}
    # A part and a reversed view have gaps, or run backwards, and stay so.
    image = np.arange(60_000, dtype=np.float32).reshape(100, 200, 3)
    for view in (image[:, 20:120], image[..., ::-1], image[::2, ::-3], np.broadcast_to(image[0], (50, 200, 3))):
        c = copycost.count(lambda x: np.testing.assert_array_equal(x, view), view)  # noqa: B023 - it is called at once
        assert c.missing is None
        c = copycost.count(np.ascontiguousarray, view)
        assert (c.allocations, c.allocated_bytes) == (1, view.size * 4)
    # A step that needs contiguous memory copies.
    assert copycost.count(np.ascontiguousarray, turned).copies == 1
    assert copycost.count(np.ascontiguousarray, floats()).copies == 0


def test_gaps_of_tensors_are_kept() -> None:
    torch = pytest.importorskip("torch")
    image = torch.arange(60_000.0).reshape(100, 200, 3)
    for view in (image[:, 20:120], image.permute(2, 0, 1), image[:1].expand(50, 200, 3)):
        c = copycost.count(lambda x: x.contiguous(), view)
        assert (c.allocations, c.allocated_bytes) == (1, view.numel() * 4)
        assert c.changed == ()


def test_what_is_no_dict_list_or_tuple_is_left_alone() -> None:
    """A mapping of another kind may be a file: nothing is put into it."""

    class Stored(UserDict):
        def __setitem__(self, key: str, value: Any) -> None:
            assert not hasattr(self, "closed"), "written to"
            super().__setitem__(key, value)

    stored = Stored(x=floats())
    stored.closed = True
    inner = stored.data["x"]
    copycost.count(lambda s: s["x"].sum(), stored)
    assert stored.data["x"] is inner
    # Objects are copied, and a container that holds itself is one.
    objects = np.array([1, 2, 3], object)
    assert copycost.count(lambda a: a.__iadd__(1), objects).changed == ("a",)
    assert objects.tolist() == [1, 2, 3]
    loop: list[Any] = [floats()]
    loop.append(loop)
    assert copycost.count(lambda a: a[1][1][0].__iadd__(1), loop).changed == ("a[0]",)
    assert np.array_equal(loop[0], floats())


def test_a_cache_is_kept_without_the_result() -> None:
    kept: list[np.ndarray] = []
    c = copycost.count(lambda x: kept.append(x + 1), floats())
    assert c.kept_bytes == N


def test_without_arrays_there_is_nothing_to_compare_with() -> None:
    c = copycost.count(lambda n: np.zeros(n, np.uint8) + 1, N)
    assert (c.allocations, c.copies, c.largest_bytes) == (2, None, 0)


def test_what_the_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        copycost.count(lambda x: 1 / 0, floats())
    with pytest.raises(TypeError, match="call is int, not a function"):
        copycost.count(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", ["tensorflow", "torch", "jax"])
def test_arrays_of_other_libraries(library: str) -> None:
    """In a process of its own: TensorFlow, once loaded, is watched too."""
    pytest.importorskip(library)
    made = {
        "tensorflow": "import tensorflow as tf; x = tf.constant(x); v = tf.Variable(x)",
        "torch": "import torch; x = torch.from_numpy(x); v = x.clone()",
        "jax": "import jax; x = jax.numpy.array(x); v = x",
    }[library]
    change = {
        "tensorflow": "lambda v: v.assign_add(tf.ones_like(v))",
        "torch": "lambda v: v.add_(1.0)",
        "jax": "jax.jit(lambda v: v + 1.0, donate_argnums=0)",
    }[library]
    code = f"""
import numpy as np, copycost
x = np.ones((500, 500), np.float32)
{made}
c = copycost.count(lambda x: (x + 1.0) * x, x)
assert (c.allocations, c.allocated_bytes, c.copies, c.changed) == (2, 2_000_000, 2, ()), c
assert c.retained_bytes == 1_000_000, c
c = copycost.count({change}, v)
assert c.changed == ("v",), c
assert float(np.asarray(v).sum()) == 250_000
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["done"], done.stderr


def test_arrays_of_two_libraries_are_refused() -> None:
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    with pytest.raises(ValueError, match="arrays of jax and torch: expected arrays of one library"):
        copycost.count(lambda a, b: None, jax.numpy.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"torch\.bfloat16: expected a dtype that NumPy knows"):
        copycost.count(lambda a: None, torch.zeros(3, dtype=torch.bfloat16))


def test_text_and_html_say_the_same() -> None:
    def doubled(x: np.ndarray) -> np.ndarray:
        half = x.astype(np.float64)
        x += 1
        return half

    c = copycost.count(doubled, floats())
    text, page = str(c), c._repr_html_()
    for words in ("doubled", "1.91 MiB (2 × the largest array)", "changed: x", "half = x.astype(np.float64)"):
        assert words in text
        assert words in page
    assert repr(c) == text
    assert (
        "&lt;b&gt;" in CallCount("<b>", 0, None, None, None, None, None, None, (), (), (), missing="no")._repr_html_()
    )


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    # IPython puts a module of its own in the place of `__main__`, which multiprocessing could not import.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    found = interactive.InteractiveShell.instance()
    found.run_line_magic("load_ext", "copycost")
    found.user_ns.update(np=np, x=floats(), batch={"image": floats()})
    yield found
    found.reset(new_session=False)


def test_a_line_of_a_notebook(shell: Any) -> None:
    c = shell.run_line_magic("copycost", "x * np.float32(2)")
    assert (c.allocations, c.allocated_bytes, c.retained_bytes, c.copies, c.changed) == (1, N, N, 1, ())
    assert c.lines[0][1] == "x * np.float32(2)  (<copycost>:1)"
    c = shell.run_line_magic("copycost", "batch['image'] += 1")
    assert c.changed == ("batch['image']",)
    assert np.array_equal(shell.user_ns["batch"]["image"], floats())


def test_a_cell_of_a_notebook(shell: Any) -> None:
    cell = "y = x + z\nfor row in y:\n    row *= 2\nz[...] = 0\n"
    c = shell.run_cell_magic("copycost", "z = np.ones_like(x)", cell)
    assert (c.allocations, c.retained_bytes, c.changed) == (1, N, ("z",))
    assert not {"y", "z", "row"} & shell.user_ns.keys()
    assert np.array_equal(shell.user_ns["x"], floats())


def test_a_function_in_a_cell_is_no_leak_and_an_attribute_no_variable(shell: Any) -> None:
    shell.user_ns["big"] = np.zeros(8 * N, np.uint8)
    shell.user_ns["holder"] = SimpleNamespace(big=np.float32(2))
    c = shell.run_cell_magic("copycost", "", "def f(a):\n    return a * holder.big\ny = f(x)\n")
    assert (c.allocations, c.retained_bytes, c.kept_bytes, c.copies, c.largest_bytes) == (1, N, 0, 1, N)


def test_a_magic_without_code_says_what_it_needs(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from IPython.core.error import UsageError

    with pytest.raises(UsageError, match=r"needs code, e\.g\.: %copycost f\(x\)"):
        shell.run_line_magic("copycost", "  ")
    with pytest.raises(SyntaxError):
        shell.run_line_magic("copycost", "x +")

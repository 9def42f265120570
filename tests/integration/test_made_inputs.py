"""Recipes that make their inputs, and recipes with parameters."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from conftest import Command, by_variant, measure

from copycost.cases import images
from copycost.cases.selection import find_definitions
from copycost.model.measurement import Measurement
from copycost.model.naming import RegistrationError

FILE = Path(__file__).parents[1] / "made_inputs.py"

HEIGHT, WIDTH, BATCH = 64, 48, 3

RECIPES = ("sizes", "random-sizes", "jpeg", "mirror", "gray", "doubled")


@pytest.fixture(scope="module")
def floats() -> dict[str, Measurement]:
    return by_variant(
        measure(files=(FILE,), recipes=RECIPES, batches=(BATCH,), size=(HEIGHT, WIDTH), dtypes=("float32",), blocks=2)
    )


@pytest.fixture(scope="module")
def integers() -> dict[str, Measurement]:
    return by_variant(
        measure(files=(FILE,), recipes=RECIPES, batches=(BATCH,), size=(HEIGHT, WIDTH), dtypes=("uint8",), blocks=2)
    )


def list_bytes() -> int:
    """Bytes of a list of images, of which each is four rows and a column smaller than the one before."""
    return sum((HEIGHT - 4 * i) * (WIDTH - i) * 3 * 4 for i in range(BATCH))


def test_a_list_of_images_of_several_sizes(floats: dict[str, Measurement]) -> None:
    each = floats["each"]
    assert (each.status, each.reason, each.input_changed) == ("ok", None, False)
    assert each.allocated_bytes == 2 * list_bytes()  # the product and the difference
    assert each.bytes_moved == 2 * list_bytes()
    assert each.images_per_second
    assert floats["over-each"].input_changed
    assert floats["over-each"].status == "ok", floats["over-each"].reason
    into = floats["each-into-a-buffer"]
    assert (into.status, into.allocations, into.result_shares) == ("ok", 0, "out")
    assert floats["of-any-size"].status == "ok"  # inputs of other sizes in every call


def test_what_is_wrong_about_a_list_is_found(floats: dict[str, Measurement]) -> None:
    assert floats["changes-the-second"].input_changed
    reasons = {
        "in-another-order": "returned shape", "loses-one": "returned list of 2, not 3 arrays",
        "remembers-the-sizes": "off by",
    }  # fmt: skip
    for name, reason in reasons.items():
        assert floats[name].status == "wrong", name
        assert reason in (floats[name].reason or ""), name
    assert floats["over-a-list"].status == "skipped"
    assert "does not fit over a 64×48×3 float32 input" in (floats["over-a-list"].reason or "")


def test_encoded_files(integers: dict[str, Measurement]) -> None:
    right = integers["decodes"]
    assert (right.status, right.max_abs_error, right.result_dtype) == ("ok", 0, "uint8, uint8, uint8")
    for name in ("decodes-at-half-size", "decodes-once"):
        assert integers[name].status == "wrong", name
        assert "off by" in (integers[name].reason or ""), name


def test_a_seed(floats: dict[str, Measurement]) -> None:
    assert floats["by-the-seed"].status == "ok", floats["by-the-seed"].reason
    for name in ("without-the-seed", "remembers-the-seed"):
        assert floats[name].status == "wrong", name
        assert "off by" in (floats[name].reason or ""), name
    assert "it remembers results" in (floats["remembers-the-values"].reason or "")


def test_one_array_of_another_shape(floats: dict[str, Measurement], integers: dict[str, Measurement]) -> None:
    over = floats["over-the-image"]
    assert (over.status, over.result_shares, over.allocations) == ("ok", "input", 0)
    assert over.bytes_moved == 2 * BATCH * HEIGHT * WIDTH * 4
    table = integers["table"]
    assert (table.status, table.result_dtype) == ("ok", "float32")


def test_the_dtype_is_that_of_the_made_array(integers: dict[str, Measurement]) -> None:
    """From pixels of uint8, the recipe makes float64."""
    right = integers["in-its-dtype"]
    assert (right.status, right.result_dtype) == ("ok", "float64"), right.reason
    assert right.bytes_moved == 2 * BATCH * HEIGHT * WIDTH * 3 * 8
    assert integers["in-float32"].status == "wrong"
    assert "off by" in (integers["through-float32"].reason or "")
    assert "returned float32, not float64" in (integers["in-float32"].reason or "")


def test_one_image() -> None:
    """A list of one image is a list."""
    rows = list(
        measure(files=(FILE,), recipes=RECIPES, variants=("each", "each-into-a-buffer", "decodes"),
                batches=(1,), size=(32, 32),
                dtypes=("float32", "uint8"),
                blocks=0)
    )  # fmt: skip
    found = {(m.variant, m.dtype): (m.status, m.reason) for m in rows}
    assert (
        found["each", "float32"] == found["each-into-a-buffer", "float32"] == found["decodes", "uint8"] == ("ok", None)
    )


def test_a_call_beside_a_profiler_receives_a_list_of_one_buffer(command: Command) -> None:
    case = ("sizes", "each-into-a-buffer", "1×32×32×3", "--with", FILE, "--here")
    done = command("profile", *case)
    assert done.returncode == 0, done.stderr


def test_channels_first_is_skipped() -> None:
    rows = measure(
        files=(FILE,), recipes=RECIPES, variants=("each",), batches=(1,), size=(32, 32), layouts=("channels_first",)
    )  # fmt: skip
    assert {(m.status, m.reason) for m in rows} == {
        ("skipped", "its recipe makes its inputs, from channels_last images only")
    }


def test_parameters_are_an_axis() -> None:
    rows = measure(
        files=(FILE,),
        recipes=("pool:*",),
        variants=("pooled",),
        batches=(2,),
        size=(32, 32),
        dtypes=("float32",),
        blocks=0,
    )
    assert {m.recipe: m.status for m in rows} == {
        f"pool:by={by},of={of}": "ok" for by in (2, 4) for of in ("mean", "max")
    }


def test_the_example_is_right() -> None:
    pytest.importorskip("cv2")
    example = FILE.parents[1] / "docs" / "examples" / "inputs.py"
    rows = list(
        measure(files=(example,), recipes=("own-*",), batches=(6, None), size=(64, 64), dtypes=("float32", "uint8"),
                blocks=0)
    )  # fmt: skip
    assert {(m.variant, m.status, m.reason) for m in rows if m.status not in ("ok", "skipped")} == set()
    assert {m.variant for m in rows if m.status == "ok"} == {
        "one-by-one", "opencv", "pillow", "mirror-some", "strided-sum",
    }  # fmt: skip


def test_what_is_a_part_or_a_quarter_of_the_images() -> None:
    """The few pixels by which images differ are in most of them."""
    text = (
        "from copycost import recipe, variant\n"
        "@recipe(name='part', inputs=lambda images, random: images[:, ::4, 8:24, :1])\n"
        "def part(x):\n    return x / 255\n"
        "@variant(recipe='part', runtime='numpy', writes='new')\n"
        "def over(example):\n    return lambda x: x * x.dtype.type(1 / 255)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.py")
        path.write_text(text)
        for _ in range(5):
            (m,) = measure(files=(path,), recipes=("part",), variants=("over",), size=(32, 32), blocks=0)
            assert (m.status, m.reason) == ("ok", None)


def test_images_that_are_all_alike_make_equal_inputs(flat: images.Photographs) -> None:
    (m,) = measure(files=(FILE,), recipes=("gray",), variants=("over-the-image",), size=(32, 32), blocks=0, image=flat)
    assert (m.status, m.reason) == ("ok", None)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ("lambda images, random: 1 / 0", "the reference: raised ZeroDivisionError: division by zero"),
        ("lambda images, random: np.array(['a'])", "made an array of <U1 as an input: expected an array of numbers"),
        ("lambda images, random: images[:0]", "made an empty array as an input: expected an array of numbers"),
        ("lambda images, random: ([images], 3)", "made a list in a list as an input: expected a list of arrays"),
        ("lambda images, random: ()", "made an input without arrays"),
        ("lambda images, random: np.zeros((4, 4))", "made equal inputs from different images"),
        ("lambda images, random: [images] * random.integers(1, 9)", "different numbers of arrays"),
    ],
)
def test_inputs_that_cannot_be_used(make: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\nfrom copycost import recipe, variant\n"
        f"@recipe(name='mine', inputs={make})\ndef mine(x):\n    return x\n"
        "@variant(recipe='mine', runtime='numpy', writes='new')\ndef copied(example):\n    return lambda x: x.copy()\n"
    )
    (m,) = measure(
        files=(path,),
        recipes=("mine",),
        variants=("copied",),
        batches=(2,),
        size=(16, 16),
        dtypes=("float32",),
        blocks=0,
    )
    assert m.status == "failed"
    assert reason in (m.reason or "")


@pytest.mark.parametrize(
    ("decorator", "message"),
    [
        ("@recipe(parameters={'by': ()})", "invalid values of parameter 'by': expected a non-empty list of them"),
        ("@recipe(parameters={'by': 'ab'})", "invalid values of parameter 'by': expected a non-empty list of them"),
        ("@recipe(parameters={'by': 3})", "invalid values of parameter 'by': expected a non-empty list of them"),
        ("@recipe(parameters={'by': (1, '1')})", "two values of a parameter have the same text: by=1"),
        ("@recipe(parameters={'by': ('a b',)})", "invalid value 'a b' of parameter 'by': expected a number or a short"),
        ("@recipe(parameters={'by': (object(),)})", "of parameter 'by': expected a number or a short name"),
        ("@recipe(inputs=3)", "invalid inputs 3: expected 1, 2, or a function that makes them"),
    ],
)
def test_bad_arguments_are_one_line(decorator: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from copycost import recipe\n{decorator}\ndef mine(x, by=1):\n    return x\n")
    with pytest.raises(RegistrationError, match="mine") as caught:
        find_definitions([path])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

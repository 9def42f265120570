"""Recipes that make their inputs, with variants that are right and others that are not."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from copycost import recipe, variant


def of_several_sizes(images, random):
    return [image[4 * i :, i:] for i, image in enumerate(images)]


@recipe(name="sizes", inputs=of_several_sizes)
def sizes(images):
    return tuple(image / 127.5 - 1 for image in images)


def sized(writes="new", recipe="sizes"):
    return variant(recipe=recipe, runtime="numpy", writes=writes, accepts="float32")


def scaled(image):
    return image * np.float32(1 / 127.5) - np.float32(1)


@sized()
def each(example):
    return lambda images: [scaled(image) for image in images]


@sized("out")
def each_into_a_buffer(example):
    def call(images, out):
        for image, buffer in zip(images, out, strict=True):
            np.multiply(image, np.float32(1 / 127.5), out=buffer)
            np.subtract(buffer, np.float32(1), out=buffer)

    return call


@sized("input")
def over_a_list(example):
    return lambda images: images


@sized()
def changes_the_second(example):
    def call(images):
        results = [scaled(image) for image in images]
        images[1][0, 0, 0] += 1
        return results

    return call


@sized()
def in_another_order(example):
    return lambda images: [scaled(image) for image in images][::-1]


@sized()
def loses_one(example):
    return lambda images: [scaled(image) for image in images[:-1]]


@sized()
def remembers_the_sizes(example):
    known = {}

    def call(images):
        key = tuple(image.shape for image in images)
        if key not in known:
            known[key] = [scaled(image) for image in images]
        return [result.copy() for result in known[key]]

    return call


@recipe(name="random-sizes", inputs=lambda images, random: [image[random.integers(9) :] for image in images])
def random_sizes(images):
    return tuple(image / 127.5 - 1 for image in images)


@sized(recipe="random-sizes")
def of_any_size(example):
    return lambda images: tuple(map(scaled, images))


@sized(recipe="random-sizes")
def over_each(example):
    """Change the images, whose sizes differ from call to call."""

    def call(images):
        results = [scaled(image) for image in images]
        for image in images:
            image *= 2
        return results

    return call


def encoded(images, random):
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "jpeg")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    return tuple(files)


def decoded(file):
    return np.asarray(Image.open(io.BytesIO(file.tobytes())))


@recipe(name="jpeg", inputs=encoded)
def jpeg(files):
    return tuple(map(decoded, files))


bytewise = variant(recipe="jpeg", runtime="numpy", writes="new", accepts="uint8")


@bytewise
def decodes(example):
    return lambda files: [decoded(file) for file in files]


@variant(recipe="jpeg", runtime="numpy", writes="new", accepts="uint8", name="decodes-at-half-size")
def decodes_at_half_size(example):
    def call(files):
        small = [Image.fromarray(decoded(file)).reduce(2) for file in files]
        return [np.asarray(image.resize((2 * image.width, 2 * image.height))) for image in small]

    return call


@variant(recipe="jpeg", runtime="numpy", writes="new", accepts="uint8")
def decodes_once(example):
    known = [decoded(file) for file in example]
    return lambda files: [image.copy() for image in known]


def with_seed(images, random):
    return images, random.integers(2**31, size=1)


@recipe(name="mirror", inputs=with_seed)
def mirror(x):
    images, seed = x
    chosen = np.random.default_rng(seed).random(len(images)) < 0.5
    return np.where(chosen[:, None, None, None], images[:, :, ::-1], images)


def mirrored(images, seed):
    result = images.copy()
    chosen = np.random.default_rng(seed).random(len(result)) < 0.5
    result[chosen] = result[chosen, :, ::-1]
    return result


@sized(recipe="mirror")
def by_the_seed(example):
    return lambda x: mirrored(*x)


@sized(recipe="mirror")
def without_the_seed(example):
    return lambda x: mirrored(x[0], example[1])


@sized(recipe="mirror")
def remembers_the_seed(example):
    known = {}
    return lambda x: known.setdefault(int(x[1][0]), mirrored(*x)).copy()


@sized(recipe="mirror")
def remembers_the_values(example):
    known = {}

    def call(x):
        key = x[0].tobytes(), int(x[1][0])
        if key not in known:
            for _ in range(20):
                known[key] = mirrored(*x)
        return known[key].copy()

    return call


@recipe(name="gray", inputs=lambda images, random: np.ascontiguousarray(images[..., :1]))
def gray(image):
    return image / 255


@variant(recipe="gray", runtime="numpy", writes="input", accepts="float32")
def over_the_image(example):
    return lambda x: np.multiply(x, np.float32(1 / 255), out=x)


@variant(recipe="gray", runtime="numpy", writes="new", accepts="uint8")
def table(example):
    values = (np.arange(256) / 255).astype(np.float32)
    return lambda x: values[x]


@recipe(name="doubled", inputs=lambda images, random: images / 255)
def doubled(x):
    return x * 2


@variant(recipe="doubled", runtime="numpy", writes="new", accepts="uint8")
def in_its_dtype(example):
    return lambda x: x * 2


@variant(recipe="doubled", runtime="numpy", writes="new", accepts="uint8")
def in_float32(example):
    return lambda x: x.astype(np.float32) * 2


@variant(recipe="doubled", runtime="numpy", writes="new", accepts="uint8")
def through_float32(example):
    return lambda x: (x.astype(np.float32) * 2).astype(np.float64)


@recipe(name="pool", parameters={"by": (2, 4), "of": ("mean", "max")})
def pool(x, by, of):
    *batch, height, width, channels = x.shape
    return getattr(np, of)(x.reshape(*batch, height // by, by, width // by, by, channels), (-4, -2))


@variant(recipe="pool", runtime="numpy", writes="new", accepts="float32", layouts="channels_last")
def pooled(example, by, of):
    return lambda x: pool(x, by, of)


@recipe(name="shift", parameters={"by": ((2, 3), [4, 4]), "of": (np.mean,)})
def shift(x, by, of):
    return x + sum(by) + 0 * of(x)


@variant(recipe="shift", runtime="numpy", writes="new", accepts="float32", layouts="channels_last")
def shifted(example, by, of):
    return lambda x: x + np.float32(sum(by))

"""Honest rewrites: functions, and other forms of each that give the same results up to rounding.

Each entry of `REWRITES` has a name, the source of ``make(random)``, which returns the arguments, and the sources of the
function's body: first the original, then its rewrites.
"""

from __future__ import annotations

IMAGES = "return random.uniform(0, 255, (8, 96, 128, 3)).astype(np.float32)"
BYTES = "return random.integers(0, 256, (8, 96, 128, 3), np.uint8)"
MATRICES = "return random.normal(size=(200, 120)), random.normal(size=(120, 160))"
ROWS = "return random.normal(size=(2000, 64)).astype(np.float32)"
PAIR_OF_ROWS = "return random.normal(size=(2000, 64)), random.normal(size=(2000, 64))"

_MEAN_STD = "m, s = np.float32([123.68, 116.78, 103.94]), np.float32([58.4, 57.1, 57.4])\n"

REWRITES: list[tuple[str, str, str, list[str]]] = [
    ("scale to -1 … 1", IMAGES, "return x / 127.5 - 1", [
        "return x * np.float32(1 / 127.5) - 1",
        "y = x / 127.5\ny -= 1\nreturn y",
        "return np.subtract(np.divide(x, 127.5), 1)",
        "return (x - 127.5) / 127.5",
        "y = np.empty_like(x)\nnp.divide(x, 127.5, out=y)\nnp.subtract(y, 1, out=y)\nreturn y",
    ]),
    ("scale bytes to -1 … 1", BYTES, "return x.astype(np.float32) / 127.5 - 1", [
        "return (np.arange(256) / 127.5 - 1).astype(np.float32)[x]",
        "return np.divide(x, np.float32(127.5), dtype=np.float32) - np.float32(1)",
        "y = x.astype(np.float32)\ny /= 127.5\ny -= 1\nreturn y",
        "return np.take((np.arange(256, dtype=np.float32) / 127.5 - 1), x)",
    ]),
    ("normalize channels", IMAGES, _MEAN_STD + "return (x - m) / s", [
        _MEAN_STD + "return x * (1 / s) - m / s",
        _MEAN_STD + "y = x - m\ny /= s\nreturn y",
        _MEAN_STD + "y = np.empty_like(x)\nfor c in range(3):\n    y[..., c] = (x[..., c] - m[c]) / s[c]\nreturn y",
        _MEAN_STD + "return np.stack([(x[..., c] - m[c]) / s[c] for c in range(3)], -1)",
        _MEAN_STD + "return np.concatenate([(image - m) / s for image in x]).reshape(x.shape)",
    ]),
    ("mean of each image and channel", IMAGES, "return x.mean(axis=(1, 2))", [
        "return x.mean(axis=2).mean(axis=1)",
        "return np.einsum('bhwc->bc', x) / (x.shape[1] * x.shape[2])",
        "return x.reshape(len(x), -1, x.shape[-1]).mean(axis=1)",
        "return x.sum(axis=(1, 2)) / np.float32(x.shape[1] * x.shape[2])",
    ]),
    ("variance", IMAGES, "return ((x - x.mean()) ** 2).mean()", [
        "return np.var(x)",
        "y = x - x.mean()\ny *= y\nreturn y.mean()",
        "y = (x - x.mean()).ravel()\nreturn y @ y / np.float32(y.size)",
    ]),
    ("scale to 0 … 1 by extremes", IMAGES, "return (x - x.min()) / (x.max() - x.min())", [
        "low, high = x.min(), x.max()\nreturn (x - low) / (high - low)",
        "return (x - x.min()) / np.ptp(x)",
        "low = x.min()\ny = x - low\ny /= x.max() - low\nreturn y",
    ]),
    ("softmax", ROWS, "e = np.exp(x - x.max(-1, keepdims=True))\nreturn e / e.sum(-1, keepdims=True)", [
        "y = x - x.max(-1, keepdims=True)\nnp.exp(y, out=y)\ny /= y.sum(-1, keepdims=True)\nreturn y",
        "return np.stack([(e := np.exp(row - row.max())) / e.sum() for row in x])",
        "e = np.exp(x - x.max(-1)[:, None])\nreturn e / np.add.reduce(e, -1)[:, None]",
    ]),
    ("gray", IMAGES, "return 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]", [
        "return x @ np.array([0.299, 0.587, 0.114], np.float32)",
        "return np.einsum('...c,c', x, np.array([0.299, 0.587, 0.114], np.float32))",
        "return np.tensordot(x, np.array([0.299, 0.587, 0.114], np.float32), 1)",
        "y = 0.299 * x[..., 0]\ny += 0.587 * x[..., 1]\ny += 0.114 * x[..., 2]\nreturn y",
        "return (x * np.array([0.299, 0.587, 0.114], np.float32)).sum(-1)",
    ]),
    ("clip", IMAGES, "return np.minimum(np.maximum(x, 10), 200)", [
        "return np.clip(x, 10, 200)",
        "return np.where(x < 10, 10, np.where(x > 200, 200, x)).astype(x.dtype)",
        "y = x.copy()\ny[y < 10] = 10\ny[y > 200] = 200\nreturn y",
    ]),
    ("flip", BYTES, "return x[:, :, ::-1].copy()", [
        "return np.flip(x, 2).copy()",
        "return np.ascontiguousarray(x[:, :, ::-1])",
        "return np.take(x, np.arange(x.shape[2])[::-1], axis=2)",
        "y = np.empty_like(x)\ny[:, :, ::-1] = x\nreturn y",
    ]),
    ("pad", IMAGES, "return np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))", [
        "b, h, w, c = x.shape\ny = np.zeros((b, h + 8, w + 8, c), x.dtype)\ny[:, 4:-4, 4:-4] = x\nreturn y",
        "y = np.concatenate([np.zeros_like(x[:, :4]), x, np.zeros_like(x[:, :4])], 1)\n"
        "return np.concatenate([np.zeros_like(y[:, :, :4]), y, np.zeros_like(y[:, :, :4])], 2)",
    ]),
    ("one-hot", "return random.integers(0, 10, 20000)", "return np.eye(10)[x]", [
        "return (x[:, None] == np.arange(10)).astype(float)",
        "y = np.zeros((len(x), 10))\ny[np.arange(len(x)), x] = 1\nreturn y",
        "return np.equal.outer(x, np.arange(10)) * 1.0",
    ]),
    ("histogram", "return random.integers(0, 256, (64, 96), np.uint8)", "return np.histogram(x, 256, (0, 256))[0]", [
        "return np.bincount(x.ravel(), minlength=256)",
        "return np.array([np.count_nonzero(x == i) for i in range(256)])",
        "return np.searchsorted(np.sort(x.ravel()), np.arange(1, 257)) - np.searchsorted(np.sort(x.ravel()), "
        "np.arange(256))",
    ]),
    ("running sum", ROWS, "return np.cumsum(x, axis=1)", [
        "return np.add.accumulate(x, axis=1)",
        "y = x.copy()\nfor i in range(1, y.shape[1]):\n    y[:, i] += y[:, i - 1]\nreturn y",
    ]),
    ("differences", IMAGES, "return x[:, 1:] - x[:, :-1]", [
        "return np.diff(x, axis=1)",
        "return np.subtract(x[:, 1:], x[:, :-1])",
    ]),
    ("length of rows", ROWS, "return np.sqrt((x ** 2).sum(-1))", [
        "return np.linalg.norm(x, axis=-1)",
        "return np.sqrt(np.einsum('ij,ij->i', x, x))",
        "return np.sqrt(np.square(x).sum(axis=1))",
    ]),
    ("distances", "return random.normal(size=(150, 16)), random.normal(size=(120, 16))",
     "return np.sqrt(((x[:, None] - z[None]) ** 2).sum(-1))", [
        "return np.linalg.norm(x[:, None] - z, axis=-1)",
        "return np.stack([np.sqrt(((row - z) ** 2).sum(-1)) for row in x])",
        "y = np.zeros((len(x), len(z)))\nfor i in range(x.shape[1]):\n    y += (x[:, i, None] - z[:, i]) ** 2\n"
        "return np.sqrt(y)",
    ]),
    ("product of matrices", MATRICES, "return x @ z", [
        "return np.dot(x, z)",
        "return np.einsum('ij,jk', x, z, optimize=True)",
        "return np.ascontiguousarray((z.T @ x.T).T)",
        "return np.stack([row @ z for row in x])",
    ]),
    ("outer product", "return random.normal(size=300), random.normal(size=400)", "return x[:, None] * z", [
        "return np.outer(x, z)",
        "return np.multiply.outer(x, z)",
        "return np.einsum('i,j', x, z)",
    ]),
    ("mean of 3 × 3", "return random.uniform(0, 255, (200, 240))",
     "h, w = x.shape\n"
     "return sum(x[i:h - 2 + i, j:w - 2 + j] for i in range(3) for j in range(3)) / 9", [
        "y = x[:-2] + x[1:-1] + x[2:]\nreturn (y[:, :-2] + y[:, 1:-1] + y[:, 2:]) / 9",
        "return np.lib.stride_tricks.sliding_window_view(x, (3, 3)).mean((2, 3))",
    ]),
    ("size of the gradient", "return random.uniform(0, 255, (200, 240))",
     "a, b = np.gradient(x)\nreturn np.sqrt(a ** 2 + b ** 2)", [
        "return np.hypot(*np.gradient(x))",
        "a, b = np.gradient(x)\na *= a\nb *= b\na += b\nreturn np.sqrt(a, out=a)",
    ]),
    ("sigmoid", ROWS, "return 1 / (1 + np.exp(-x))", [
        "y = np.exp(-x)\ny += 1\nreturn np.reciprocal(y, out=y)",
        "y = np.negative(x)\nnp.exp(y, out=y)\ny += 1\nnp.divide(1, y, out=y)\nreturn y",
    ]),
    ("ReLU", ROWS, "return np.maximum(x, 0)", [
        "return np.where(x > 0, x, np.float32(0))",
        "return x.clip(0)",
        "y = x.copy()\ny[y < 0] = 0\nreturn y",
    ]),
    ("polynomial", ROWS.replace(".astype(np.float32)", ""), "return 3 * x ** 2 + 2 * x + 1", [
        "return (3 * x + 2) * x + 1",
        "return np.polyval([3, 2, 1], x)",
        "y = 3 * x\ny += 2\ny *= x\ny += 1\nreturn y",
    ]),
    ("log-sum-exp", ROWS, "m = x.max(-1)\nreturn m + np.log(np.exp(x - m[:, None]).sum(-1))", [
        "m = x.max(-1)\ny = x - m[:, None]\nnp.exp(y, out=y)\nreturn np.log(y.sum(-1)) + m",
    ]),
    ("cosine similarity", PAIR_OF_ROWS,
     "return (x * z).sum(-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(z, axis=-1))", [
        "return np.einsum('ij,ij->i', x, z) / np.sqrt((x ** 2).sum(-1) * (z ** 2).sum(-1))",
        "return (x * z).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(z, axis=-1)",
    ]),
    ("sort", ROWS, "return np.sort(x, -1)", [
        "y = x.copy()\ny.sort(-1)\nreturn y",
        "return np.take_along_axis(x, np.argsort(x, -1), -1)",
        "return np.sort(x.T, 0).T.copy()",
    ]),
    ("median", "return random.normal(size=(101, 1000))", "return np.median(x, axis=0)", [
        "return np.sort(x, axis=0)[50]",
        "return np.partition(x, 50, axis=0)[50]",
        "return np.median(np.ascontiguousarray(x.T), axis=1)",
    ]),
    ("index of the largest", ROWS, "return np.argmax(x, -1)", [
        "return x.argmax(axis=1)",
        "return np.argsort(-x, -1, kind='stable')[:, 0]",
        "return np.array([row.argmax() for row in x])",
    ]),
    ("threshold", BYTES, "return (x > 128).astype(np.uint8) * 255", [
        "return np.where(x > 128, 255, 0).astype(np.uint8)",
        "return np.greater(x, 128).view(np.uint8) * np.uint8(255)",
        "return -(x > 128).view(np.int8).view(np.uint8)",
    ]),
    ("mean of two images", "return tuple(random.integers(0, 256, (4, 96, 128, 3), np.uint8) for _ in range(2))",
     "return ((x.astype(np.uint16) + z) // 2).astype(np.uint8)", [
        "return (x & z) + ((x ^ z) >> 1)",
        "return (x >> 1) + (z >> 1) + (x & z & 1)",
        "return ((x.astype(np.int32) + z) >> 1).astype(np.uint8)",
    ]),
    ("gamma", BYTES, "return (255 * (x / 255) ** 0.5).astype(np.uint8)", [
        "return (255 * (np.arange(256) / 255) ** 0.5).astype(np.uint8)[x]",
        "return np.take((255 * (np.arange(256) / 255) ** 0.5).astype(np.uint8), x)",
    ]),
    ("twice as large", BYTES, "return x.repeat(2, 1).repeat(2, 2)", [
        "b, h, w, c = x.shape\n"
        "return np.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)",
        "i, j = (np.arange(2 * n) // 2 for n in x.shape[1:3])\nreturn x[:, i][:, :, j]",
        "b, h, w, c = x.shape\ny = np.empty((b, 2 * h, 2 * w, c), x.dtype)\n"
        "for i in range(2):\n    for j in range(2):\n        y[:, i::2, j::2] = x\nreturn y",
    ]),
    ("channels first", IMAGES, "return np.ascontiguousarray(x.transpose(0, 3, 1, 2))", [
        "return np.moveaxis(x, -1, 1).copy()",
        "return np.stack([x[..., c] for c in range(3)], 1)",
        "return np.einsum('bhwc->bchw', x).copy()",
    ]),
    ("normalize each image", IMAGES,
     "a = (1, 2, 3)\nreturn (x - x.mean(a, keepdims=True)) / x.std(a, keepdims=True)", [
        "a = (1, 2, 3)\ny = x - x.mean(a, keepdims=True)\ny /= x.std(a, keepdims=True)\nreturn y",
        "return np.stack([(image - image.mean()) / image.std() for image in x])",
        "a = (1, 2, 3)\ny = x - x.mean(a, keepdims=True)\nreturn y / np.sqrt((y * y).mean(a, keepdims=True))",
    ]),
    ("trace", "return random.normal(size=(800, 800))", "return np.trace(x)", [
        "return x.diagonal().sum()",
        "return np.einsum('ii', x)",
        "return x.ravel()[:: len(x) + 1].sum()",
    ]),
    ("crop", BYTES, "return x[:, 8:-8, 8:-8].copy()", [
        "return np.ascontiguousarray(x[:, 8:-8, 8:-8])",
        "return np.array(x[:, 8:-8, 8:-8])",
        "return np.stack([image[8:-8, 8:-8] for image in x])",
    ]),
    ("sum of squares", IMAGES, "return (x ** 2).sum()", [
        "return np.dot(x.ravel(), x.ravel())",
        "return np.vdot(x, x)",
        "return np.square(x).sum()",
    ]),
]  # fmt: skip

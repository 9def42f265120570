import numpy as np

import copycost
from copycost import recipes

x = np.random.default_rng(0).uniform(0, 255, (32, 224, 224, 3)).astype(np.float32)


def scaled(x):
    return x / 127.5 - 1.0


def scaled_into(x, out):
    np.divide(x, np.float32(127.5), out=out)
    return np.subtract(out, np.float32(1), out=out)


print(copycost.measure(scaled, x, reference=recipes.tf))
print(copycost.measure(scaled_into, x, reference=recipes.tf, out=np.empty_like(x)))

table = copycost.run(
    copycost.select(recipes=["tf"], variants=["numpy-*"], batches=[1], dtypes=["uint8"], devices=["cpu"])
)
print(table[["variant", "status", "seconds", "allocated_bytes"]])

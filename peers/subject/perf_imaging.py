"""The four functions as pyperf measures them."""

import imaging
import numpy as np
import pyperf

runner = pyperf.Runner()
for batch in (1, 4, 16):
    x = np.random.default_rng(0).uniform(0, 255, (batch, 224, 224, 3)).astype(np.float32)
    out = np.empty_like(x)
    for name in ("rescale", "normalize", "center"):
        runner.bench_func(f"{name}-{batch}", getattr(imaging, name), x)
    runner.bench_func(f"rescale_out-{batch}", imaging.rescale_out, x, out)

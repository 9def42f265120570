"""Define the PyTorch runtime for kernels that Triton compiles."""

from __future__ import annotations

from dataclasses import replace

from copycost.model.vocabulary import DeviceKind
from copycost.runtimes import torch

RUNTIME = replace(
    torch.RUNTIME,
    name="torch_triton",
    packages=("torch", "triton"),
    install="pip install -e '.[triton]' in a clone of copycost",
    devices=(DeviceKind.GPU,),
)

"""Whether TensorFlow uses oneDNN here, and with it an allocator that keeps freed memory."""

from __future__ import annotations

import os
import platform

from copycost_meter.cpu import cpu_flags

#: Environment variable that overrides TensorFlow's default.
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

#: x86 CPU extensions with which TensorFlow enables oneDNN by default (DefaultOneDnnPolicy in
#: tensorflow/core/util/util.cc).
_BY_DEFAULT = "avx512_vnni avx512_bf16 avx_vnni amx_tile amx_int8 amx_bf16"

#: Values of a variable that TensorFlow reads as false (ReadBoolFromEnvVar in tensorflow/core/util/env_var.cc).
_OFF = ("0", "false")


def enabled() -> bool | None:
    """Return whether TensorFlow uses oneDNN, or None if the variable is not set and this is not an x86 CPU."""
    if setting := os.environ.get(VARIABLE):
        return setting not in _OFF
    return bool(cpu_flags(_BY_DEFAULT)) if platform.machine() == "x86_64" else None

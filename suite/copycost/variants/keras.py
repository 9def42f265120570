"""Define the Keras variants: Keras' own `preprocess_input`, imported rather than copied, on arrays and on tensors."""

from __future__ import annotations

from copycost.registry import variant

#: Known issue: Keras converts integer arrays to float32, but does not convert integer tensors.
_UINT8_TENSOR = "docs/results/known-issues.md#keras-tensor-on-uint8"


def _preprocess_input(example, mode: str):
    from keras.applications.imagenet_utils import preprocess_input

    layout = "channels_last" if example.shape[-1] == 3 else "channels_first"
    return lambda x: preprocess_input(x, data_format=layout, mode=mode)


def _register(mode: str) -> None:
    @variant(recipe=mode, runtime="keras", writes="new")
    def keras_numpy(example):
        return _preprocess_input(example, mode)

    @variant(recipe=mode, runtime="tensorflow", writes="new", known={"uint8": _UINT8_TENSOR})
    def keras_tensor(example):
        return _preprocess_input(example, mode)


for _mode in ("caffe", "tf", "torch"):
    _register(_mode)

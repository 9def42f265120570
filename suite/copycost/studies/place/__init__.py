"""Where to preprocess: on the CPU before the images cross to the device, on the device, or inside the model."""

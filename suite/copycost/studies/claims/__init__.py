"""Claims about preprocessing in NumPy and TensorFlow, and tests of whether they hold."""

"""What is said of preprocessing in NumPy and TensorFlow, and what is true of it."""

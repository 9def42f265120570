"""Types of asv benchmarks that count allocations, copies, changed arrays and a device's work."""

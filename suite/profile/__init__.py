"""The profiler of one case: what its call does, how long each part takes, and what it allocates."""

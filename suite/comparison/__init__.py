"""Two sides of the same cases: what became worse, what stayed the same, and what could not be told."""

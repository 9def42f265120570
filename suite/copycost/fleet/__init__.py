"""Fleet: an asv project measured on several machines, each of which times one thing at a time."""

"""Results on disk: write them, read them, check them."""

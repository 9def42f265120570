"""Studies in addition to the cases: claims and input pipelines."""

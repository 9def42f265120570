"""Studies beside the cases: claims and input pipelines."""

"""Two commits of a repository, measured side by side."""

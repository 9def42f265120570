"""Write, read and check results on disk."""

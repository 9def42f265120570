"""What can be measured: find it, load it, describe it."""

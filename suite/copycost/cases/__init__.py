"""Select the cases to measure, and check which of them fit this machine."""

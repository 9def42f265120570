"""Define the version of the distribution."""

__version__ = "0.1.0"

#: Version of the method of counting. It changes when the counts of two versions must not be compared.
METHOD_VERSION = 1

"""The `copycost` command line: one module per command."""

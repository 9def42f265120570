"""The command `copycost`: one module for each of its commands."""

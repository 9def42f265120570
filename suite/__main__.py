"""`python -m suite` is the command `copycost`."""

from suite.cli import main

if __name__ == "__main__":
    main()

"""`python -m copycost` and the command `copycost`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C while it is imported is no traceback either."""
    try:
        from copycost.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

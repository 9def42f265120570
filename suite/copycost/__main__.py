"""Run `python -m copycost` and the command `copycost`."""

import sys


def main() -> None:
    """Run the command, exiting without a traceback on Ctrl-C even during imports."""
    try:
        from copycost.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

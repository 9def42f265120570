"""Run one step in this process: ``python -m copycost.studies.certify.look PARENT NAME DEVICE [RUNTIME]``.

Each finding is written to standard output at once, as a line of JSON. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import numpy as np

from copycost.catalog import discovery
from copycost.engine.worker import CaseFailure
from copycost.machine.parent import die_with_parent
from copycost.model.runtime import RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind
from copycost.studies.certify import steps  # noqa: F401
from copycost.studies.certify.step import STEPS, NothingToCheck, Subject
from copycost_meter.errors import describe


def main(parent: str, name: str, device: str, runtime: str | None = None) -> None:
    """Run a step and write its findings, and the reason if it cannot test anything or raises."""
    die_with_parent()
    if os.getppid() != int(parent):  # it has ended before
        return
    with os.fdopen(os.dup(1), "w") as file:
        os.dup2(2, 1)
        discovery.load_shipped()
        try:
            for finding in STEPS[name].look(Subject(DeviceKind(device), runtime)):
                print(json.dumps(asdict(finding), default=np.generic.item), file=file, flush=True)
        except (NothingToCheck, RuntimeUnavailable, CaseFailure) as nothing:
            print(json.dumps({"reason": str(nothing)}), file=file, flush=True)
        except Exception as error:
            print(json.dumps({"reason": describe(error)}), file=file, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

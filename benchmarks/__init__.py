"""copycost measured by asv: `asv run`, or `copycost track`.

asv gives a case to a process by its number, so every process must list the same cases, whatever the commit that it
measures knows. What is listed here is therefore the working tree's; what is measured is the commit's, by the command
that is installed in asv's environment.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "suite"))

"""asv benchmarks of copycost, for `asv run` or `copycost track`.

asv passes cases to processes by number, so that every process must list the same cases, whichever commit it measures.
Therefore, the list of cases comes from the working tree. The measured variants come from the commit: they are run by
the command that is installed in asv's environment.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "suite"))

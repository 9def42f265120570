"""What a build and pip would do, in no time: put the one module where the environment finds it."""

import shutil
import sys
from pathlib import Path

build, environment = map(Path, sys.argv[1:])
(target,) = environment.glob("lib/python*/site-packages")
shutil.copy(build / "imaging.py", target)

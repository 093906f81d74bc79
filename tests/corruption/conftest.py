"""The build folder is that of the environment variable ACE_BUILD, else `build` in the repository."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", HERE.parents[1] / "build"))
PROGRAM = BUILD / "tests" / "corruption"
sys.path.insert(0, str(HERE))

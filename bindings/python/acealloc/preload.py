"""Where the preloaded library is, and the environment that makes a program start on it."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from . import _core
from .errors import Failure

LIBRARY = "libace-preload.so"
MALLOC = "libace-malloc.so"  # beside it


def library() -> str:
    """The absolute path of the preloaded library: ACE_PRELOAD where it is set, else the package's own.

    Failure where there is none, or where its path cannot be written into LD_PRELOAD.
    """
    named = os.environ.get("ACE_PRELOAD")
    # The library lies beside the compiled module, in an installed package and in a build folder alike.
    path = Path(named) if named else Path(_core.__file__).with_name(LIBRARY)
    path = path.absolute()
    if not path.is_file():
        raise Failure(
            "there is no preloaded library at %s: %s"
            % (path, "set ACE_PRELOAD to one, or unset it" if named else "install the package again (pip install .)")
        )
    if any(separator in str(path) for separator in " :\t\n"):
        raise Failure(
            "LD_PRELOAD cannot hold the path '%s', because it contains a space or a colon: copy the library "
            "elsewhere and set ACE_PRELOAD to the copy" % path
        )
    return str(path)


def malloc_library(preload: str) -> str:
    """The absolute path of the library that replaces malloc, beside the preloaded one. Failure where there is none."""
    path = os.path.join(os.path.dirname(preload), MALLOC)
    if not os.path.isfile(path):
        raise Failure("there is no %s beside %s: install the package again (pip install .)" % (MALLOC, preload))
    return path


def environment(
    preload: str, settings: Mapping[str, str], base: Mapping[str, str], malloc: Optional[str] = None
) -> Dict[str, str]:
    """`base` with the library first in LD_PRELOAD, then `malloc` (malloc_library), within reach of Lua's
    require "ace", and with `settings` (ACE_MODE: static, ...)."""
    result = dict(base)
    ours = [preload] + ([malloc] if malloc else [])
    present = [path for path in base.get("LD_PRELOAD", "").replace(":", " ").split() if path not in ours]
    result["LD_PRELOAD"] = ":".join(ours + present)
    if os.path.basename(preload) == LIBRARY:
        pattern = os.path.join(os.path.dirname(preload), LIBRARY.replace("ace", "?", 1))
        # From 5.2 on a version's own variable counts in place of the other.
        for name in ["LUA_CPATH", *(name for name in base if name.startswith("LUA_CPATH_5_"))]:
            theirs = base.get(name, ";")  # then ;; comes to stand at the end, for Lua's own path
            result[name] = theirs if theirs.startswith(pattern) else pattern + ";" + theirs
    result.update(settings)
    return result


OPTION_BYTES = 255  # src/wire/options.h


def option_path(path: str) -> str:
    """The file's path as an option has it, whichever folder its processes go to before they write. Failure where it
    is longer than an option may be."""
    whole = os.path.abspath(path)
    if len(os.fsencode(whole)) > OPTION_BYTES:
        raise Failure("%s is a path of more than %d bytes: name a file in a folder less deep"
                      % (whole, OPTION_BYTES), 2)  # fmt: skip
    return whole


def misspelt(environment: Mapping[str, str]) -> List[Tuple[str, str]]:
    """Variables that are no option's and nearly one's, each with that. The library itself tells of unknown ones only
    under ACE_VERBOSE=on, as other programs have an ACE_ of their own."""
    known = [option.environment for option in _core.options()]
    found = []
    for name in sorted(environment):
        if name.startswith("ACE_") and name not in known:
            found += [(name, near) for near in difflib.get_close_matches(name, known, n=1, cutoff=0.85)]
    return found

"""Where the allocators are that ACE is compared with. The benchmarks load this file by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Optional, Tuple

FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
MIMALLOC = "cmeel-mimalloc==3.4.3"
# By name: the library's file, and what to do where it is absent.
SYSTEM: Dict[str, Tuple[str, str]] = {
    "jemalloc": ("libjemalloc.so.2", "apt-get install libjemalloc2"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "apt-get install libtcmalloc-minimal4"),
}
LUAJIT = ("libluajit-5.1.so.2", "apt-get install libluajit-5.1-2")


def system(name: str) -> Optional[str]:
    """The path of a library of the system; None where it is absent."""
    return next((os.path.join(folder, name) for folder in FOLDERS if os.path.exists(os.path.join(folder, name))), None)


def mimalloc() -> Optional[str]:
    """That of the PyPI package cmeel-mimalloc; None where it is not installed."""
    try:
        import cmeel
    except ImportError:
        return None
    path = Path(cmeel.__path__[0]).parent / "cmeel.prefix" / "lib" / "libmimalloc.so"
    return str(path) if path.exists() else None

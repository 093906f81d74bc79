"""Packages that experiments alone need: imported where they are first used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from .errors import Failure

# As in pyproject.toml's extra `experiments`.
REQUIREMENTS = {
    "hdrh": "hdrhistogram>=0.10",
    "matplotlib": "matplotlib>=3.5",
    "optuna": "optuna>=3",
    "pandas": "pandas>=1.3",
}


def need(module: str, what: str) -> Any:
    """The module, of one of these packages. Failure where it is not here: with `what`, and with all that is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        lacking = [text for name, text in REQUIREMENTS.items() if name == package or not importlib.util.find_spec(name)]
        name = REQUIREMENTS[package].split(">")[0]
        raise Failure("%s %s: pip install %s" % (what, name, " ".join("'%s'" % text for text in lacking))) from None

"""Tables as files."""

from __future__ import annotations

import csv
import os
from typing import Any, Mapping, Sequence, Union

from .errors import Failure


def write_csv(path: Union[str, "os.PathLike[str]"], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows under the names of all their columns, in the order of their appearance. Failure where the file
    cannot be written."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise Failure("%s cannot be written: %s" % (os.fspath(path), error.strerror)) from None

"""`python -m acealloc` is the command `ace`."""

import sys

from .cli import main

sys.exit(main())

"""Runs a pyperf script with the clock of the processor instead of the wall's: others work on the machine, too.

python3 pyperf_by_cpu.py SCRIPT ARGUMENTS...
"""

import os
import runpy
import sys
import time

time.perf_counter = time.process_time  # before pyperf takes it
del sys.argv[0]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")

"""The protocols between threads, as models that spin looks through whole: no order of steps breaks what they assert.

Each model has switches that break its protocol on purpose, named in its head comment; with each of them spin must
find a way in which it goes wrong. `spin` and a C compiler are needed (Debian packages spin and gcc).
"""

import pathlib
import re
import shutil
import subprocess

import pytest

MODELS = pathlib.Path(__file__).parent
SWITCH = re.compile(r"^ \*   ([A-Z_]+) +\S", re.MULTILINE)


def _cases():
    for model in sorted(MODELS.glob("*.pml")):
        switches = SWITCH.findall(model.read_text())
        assert len(switches) >= 3, model
        for switch in [None, *switches]:
            yield pytest.param(model, switch, id="%s-%s" % (model.stem, switch or "holds"))


def look_through(model, folder, switch=None):
    """Returns (errors, states, what spin printed) of the model, broken by `switch` where there is one."""
    flags = [] if switch is None else ["-D" + switch]
    subprocess.run(["spin", "-a", *flags, model], cwd=folder, check=True, capture_output=True)
    # What is broken is soon found: there the compiler would take the longest.
    compiler = ["cc", "-O1" if switch is None else "-O0", "-w", "-DSAFETY", "-DVECTORSZ=2048"]
    subprocess.run([*compiler, "-o", "pan", "pan.c"], cwd=folder, check=True)
    search = ["./pan", "-m200000", "-w20"]
    output = subprocess.run(search, cwd=folder, check=True, capture_output=True, text=True).stdout
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    assert errors and states and "max search depth too small" not in output, output
    return int(errors[1]), int(states[1]), output


@pytest.mark.parametrize("model, switch", list(_cases()))
def test_model(model, switch, tmp_path):
    if shutil.which("spin") is None:
        pytest.fail("spin is missing: install the Debian package of that name")
    errors, states, output = look_through(model, tmp_path, switch)
    if switch is None:
        assert errors == 0, output
        assert states > 1000, "it hardly ran: " + output
    else:
        assert errors != 0, "%s was not found: %s" % (switch, output)

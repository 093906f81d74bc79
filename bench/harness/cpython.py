"""The programs of pyperformance, and an environment for each interpreter to run them in.

pyperf runs each as one process, its worker, with a fixed number of loops: so that runs of several allocators can take
turns, and all do the same work. Its values are taken by the processor's clock (bench/vm/pyperf_by_cpu.py). The loops
are calibrated once, on the VM's own allocator, and kept in loops.json.
"""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

from harness.errors import Trouble
from harness.programs import BENCH, Program, Selection

REQUIREMENTS = BENCH / "requirements-python.txt"
DEBIAN_PYTHON = "/usr/bin/python3"

# name, folder of pyperformance (without bm_), arguments, which benchmark of several in the script (None: the only
# one), the modules that it needs.
PROGRAMS = (
    ("argparse", "argparse", "many_optionals", None, ""),
    ("async_generators", "async_generators", "", None, ""),
    ("async_tree", "async_tree", "none", None, ""),
    ("bpe_tokeniser", "bpe_tokeniser", "", None, ""),
    ("chaos", "chaos", "", None, ""),
    ("comprehensions", "comprehensions", "", None, ""),
    ("coroutines", "coroutines", "", None, ""),
    ("create_gc_cycles", "gc_collect", "", None, ""),
    ("crypto_pyaes", "crypto_pyaes", "", None, "pyaes"),
    ("deepcopy", "deepcopy", "", 0, ""),
    ("deltablue", "deltablue", "", None, ""),
    ("docutils", "docutils", "", None, "docutils"),
    ("fannkuch", "fannkuch", "", None, ""),
    ("float", "float", "", None, ""),
    ("gc_traversal", "gc_traversal", "", None, ""),
    ("generators", "generators", "", None, ""),
    ("go", "go", "", None, ""),
    ("hexiom", "hexiom", "", None, ""),
    ("html5lib", "html5lib", "", None, "html5lib"),
    ("json_dumps", "json_dumps", "", None, ""),
    ("json_loads", "json_loads", "", None, ""),
    ("logging_format", "logging", "format", None, ""),
    ("mdp", "mdp", "", None, ""),
    ("meteor_contest", "meteor_contest", "", None, ""),
    ("nbody", "nbody", "", None, ""),
    ("nqueens", "nqueens", "", None, ""),
    ("pathlib", "pathlib", "", None, ""),
    ("pickle_pure_python", "pickle", "--pure-python pickle", None, ""),
    ("pprint_pformat", "pprint", "", 1, ""),
    ("pyflate", "pyflate", "", None, ""),
    ("raytrace", "raytrace", "", None, ""),
    ("regex_compile", "regex_compile", "", None, ""),
    ("richards", "richards", "", None, ""),
    ("scimark_sparse", "scimark", "sparse_mat_mult", None, ""),
    ("spectral_norm", "spectral_norm", "", None, ""),
    ("sqlglot_parse", "sqlglot_v2", "parse", None, "sqlglot"),
    ("sympy_str", "sympy", "str", None, "sympy distutils"),
    ("telco", "telco", "", None, ""),
    ("tomli_loads", "tomli_loads", "", None, "tomli"),
    ("unpickle_list", "pickle", "unpickle_list", None, ""),
    ("unpickle_pure_python", "pickle", "--pure-python unpickle", None, ""),
    ("xml_etree_process", "xml_etree", "process", None, ""),
)
QUICK = ("deepcopy", "deltablue", "json_loads", "unpickle_pure_python")
# A record in half an hour for each interpreter, with 9 rounds and 3 peers: 20 programs whose runs take 2 to 3 seconds,
# of every sort that the whole list has. Objects of the program (deltablue to float), containers and copies (deepcopy to
# nqueens), text and parsing (json_dumps to sqlglot_parse), calls and generators (generators, richards), C modules
# that allocate for themselves (unpickle_list, xml_etree_process), arithmetic with hardly an allocation (telco).
SHORT = (
    "deltablue", "go", "hexiom", "raytrace", "chaos", "float", "deepcopy", "comprehensions", "nqueens", "json_dumps",
    "json_loads", "logging_format", "pickle_pure_python", "regex_compile", "sqlglot_parse", "generators", "richards",
    "unpickle_list", "xml_etree_process", "telco",
)  # fmt: skip

# Seconds of a value, and how many values a run takes after its warm-up, which is as long as a value.
TARGET_SECONDS, QUICK_TARGET_SECONDS = 0.3, 0.1
VALUES, QUICK_VALUES = 5, 3
# A single loop of these takes seconds.
SLOW = ("bpe_tokeniser", "docutils", "mdp", "pprint_pformat", "tomli_loads")
SLOW_VALUES = 2


def interpreters(given):
    """(host, path) of the interpreters: those of the user, or Debian's and the newest 3.13 of pyenv."""
    if given:
        paths = [shutil.which(path) or path for path in given]
        missing = [path for path in paths if not Path(path).exists()]
        if missing:
            raise Trouble("--python %s: there is no such program" % missing[0])
    else:
        found = sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python3.13"), key=natural)
        paths = [p for p in (DEBIAN_PYTHON, *map(str, found[-1:])) if Path(p).exists()]
    hosts = {}
    for path in paths:
        host = "cpython%s" % version_of(path)
        if host in hosts:
            raise Trouble("two interpreters are both %s: name one of them by --python" % host)
        hosts[host] = path
    return list(hosts.items())


def natural(path):
    return [int(number) for number in re.findall(r"\d+", str(path))]


def version_of(path):
    """3.11 for a CPython 3.11."""
    code = "import sys; assert sys.implementation.name == 'cpython'; print('%d.%d' % sys.version_info[:2])"
    said = subprocess.run([path, "-c", code], capture_output=True, text=True)
    if said.returncode != 0:
        raise Trouble("--python %s: it is no CPython that works: %s" % (path, said.stderr.strip()[-200:]))
    return said.stdout.strip()


def environment(host, path, root, say):
    """The Python of the environment for this interpreter; made and filled where it is not there yet."""
    folder = root / (".venv-bench-%s" % host.removeprefix("cpython"))
    python, marker = folder / "bin" / "python", folder / "requirements-installed.txt"
    if not python.exists():
        say("making the environment %s" % folder.name)
        command([path, "-m", "venv", str(folder)])
    if not marker.exists() or marker.read_bytes() != REQUIREMENTS.read_bytes():
        say("installing %s for %s" % (REQUIREMENTS.name, host))
        install(python, say)
        marker.write_bytes(REQUIREMENTS.read_bytes())
    return python


def install(python, say):
    """The whole list, or what of it this interpreter can have: pyperf and pyperformance are a must."""
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if subprocess.run([*pip, "-r", str(REQUIREMENTS)], capture_output=True).returncode == 0:
        return
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    must = [line for line in lines if line.startswith("pyperf")]
    command([*pip, *must])
    for line in lines:
        if line not in must and subprocess.run([*pip, line], capture_output=True).returncode != 0:
            say("%s cannot be installed: its program is skipped" % line)


def command(words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble("'%s' failed: %s" % (" ".join([Path(words[0]).name, *words[1:]]), done.stderr.strip()[-400:]))


def names(quick=False, short=False):
    """Which programs are run."""
    some = QUICK if quick else SHORT if short else None
    return [name for name, *_ in PROGRAMS if some is None or name in some]


def programs(hosts, root, quick, say, short=False):
    """The programs on each interpreter."""
    selection = Selection()
    wanted = names(quick, short)
    for host, path in hosts[:1] if quick else hosts:
        python = environment(host, path, root, say)
        folder, absent = look(python)
        for name, script, args, task, modules in PROGRAMS:
            if name not in wanted:
                continue
            file = folder / ("bm_" + script) / "run_benchmark.py"
            missing = [module for module in modules.split() if module in absent]
            if missing or not file.exists():
                why = "needs the module %s" % missing[0] if missing else "pyperformance has no bm_%s" % script
                selection.skipped.append("%s: %s: %s" % (host, name, why))
                continue
            selection.programs.append(program(host, python, name, file, args, task, quick))
    return selection


def look(python):
    """Where pyperformance's programs are, and which modules are not there."""
    modules = sorted({module for *_, modules in PROGRAMS for module in modules.split()})
    code = ("import importlib.util as u, json, sys; print(json.dumps([u.find_spec('pyperformance').origin, "
            "[m for m in sys.argv[1:] if not u.find_spec(m)]]))")  # fmt: skip
    said = subprocess.run([str(python), "-c", code, *modules], capture_output=True, text=True)
    if said.returncode != 0:
        raise Trouble("the environment %s is damaged: delete it, and it is made again" % python.parent.parent.name)
    origin, absent = json.loads(said.stdout)
    return Path(origin).parent / "data-files" / "benchmarks", absent


def program(host, python, name, file, args, task, quick):
    values = QUICK_VALUES if quick else SLOW_VALUES if name in SLOW else VALUES
    words = [str(python), str(BENCH / "vm" / "pyperf_by_cpu.py"), str(file), *args.split(), "--worker",
             "--loops={loops}", "--warmups=1", "--values=%d" % values, "--output={output}"]  # fmt: skip
    words += ["--worker-task=%d" % task] if task is not None else []
    # The output says how long it took: it is not compared.
    return Program("cpython", host, "cpython", name, "%s values=%d" % (args, values) if args else "values=%d" % values,
                   tuple(words), compares_output=False, way="pyperf")  # fmt: skip


def loops_for(seconds_of_one, seconds):
    """How many loops make a value long enough."""
    return max(1, math.ceil(seconds / seconds_of_one))

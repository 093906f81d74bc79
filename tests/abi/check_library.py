"""Checks the shared library's outside: its symbols, what it needs, its thread-local storage.

usage: check_library.py LIBRARY HEADER [--sanitized]

With --sanitized the runtime libraries of sanitizers are allowed among what it needs.
"""
import re
import subprocess
import sys


def readelf(option, library):
    """The lines that readelf prints for one of its options."""
    done = subprocess.run(["readelf", "--wide", option, library], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def exported(library):
    """The names of the defined dynamic symbols."""
    names = set()
    for line in readelf("--dyn-syms", library):
        words = line.split()
        # Num: Value Size Type Bind Vis Ndx Name
        if len(words) >= 8 and words[0].rstrip(":").isdigit() and words[6] != "UND" and words[4] in ("GLOBAL", "WEAK"):
            names.add(words[7].split("@")[0])
    return names


def declared(header):
    """The names of the functions that the header declares with ACE_API."""
    with open(header) as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    return set(re.findall(r"\bACE_API\s[^;({]*?\b(ace_\w+)\s*\(", text))


def problems(library, header, sanitized):
    """Yields a sentence for each promise that is broken."""
    functions, symbols = declared(header), exported(library)
    if not functions:
        yield f"{header} declares no function: has ACE_API another name now?"
    for name in sorted(functions - symbols):
        yield f"{name} is declared in the header, but not exported"
    for name in sorted(symbols - functions):
        yield f"{name} is exported, but not declared in the header"

    dynamic = readelf("--dynamic", library)
    needed = [match[1] for line in dynamic if (match := re.search(r"\(NEEDED\).*\[(.*)\]", line))]
    allowed = r"libc\.so\.\d+|ld-linux-[\w-]+\.so\.\d+" + (r"|lib[alt]san\.so\.\d+|libubsan\.so\.\d+" if sanitized else "")
    for name in needed:
        if not re.fullmatch(allowed, name):
            yield f"it needs {name}; only libc and the dynamic loader are allowed"
    if not any(name.startswith("libc.so") for name in needed):
        yield f"it does not need libc, which cannot be: {needed}"
    if any("STATIC_TLS" in line for line in dynamic):
        yield "it has the flag DF_STATIC_TLS: dlopen may run out of room for it"
    if any("(TEXTREL)" in line for line in dynamic):
        yield "it has relocations in its code"


def main(arguments):
    if len(arguments) not in (2, 3) or arguments[2:] not in ([], ["--sanitized"]):
        sys.exit(__doc__)
    found = list(problems(arguments[0], arguments[1], len(arguments) == 3))
    for sentence in found:
        print(f"{arguments[0]}: {sentence}", file=sys.stderr)
    if not found:
        print(f"{len(exported(arguments[0]))} symbols, all of them declared; nothing needed but libc")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

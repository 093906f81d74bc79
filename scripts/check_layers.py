#!/usr/bin/env python3
"""Checks who includes whom among the folders of src, and that no headers include one another in a circle.

usage: check_layers.py [ROOT]

The table is the design: data flows api -> front -> heap -> os, and events api -> control -> decide; `front` and
`decide` never meet, and share only the plain data of `wire`.
"""

import pathlib
import re
import sys

# Folder: what its files may include beside their own folder. "public" is include/ace.
MAY_INCLUDE = {
    "base": set(),
    "os": {"base"},
    "wire": {"base", "public"},
    "trace": {"base", "os", "wire", "public"},
    "heap": {"base", "os", "wire", "public"},
    "front": {"base", "wire", "heap", "public"},
    "decide": {"base", "wire", "public"},
    "control": {"base", "os", "wire", "heap", "decide", "public"},
    "api": {"base", "os", "wire", "heap", "front", "decide", "control", "trace", "public"},
    "shim": {"base", "os", "wire", "heap", "front", "control", "api", "trace", "public"},
}
# Code beside src: the bindings and examples are hosts like any other.
MAY_INCLUDE_OUTSIDE = {
    "bindings": {"public"},
    "bindings/preload": {"public", "api", "trace"},
    "bindings/python/hook": {"public", "trace"},
    "bindings/lua": {"public", "base", "trace"},
    "bindings/python/module": {"public", "base", "os", "wire", "decide", "trace"},
    "bindings/python/replay": {"public", "os", "trace"},
    "examples": {"public"},
}
SUFFIXES = {".h", ".c", ".cpp", ".hpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def includes(file):
    """Yields (line number, name, is quoted) for each include of the file."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match[2], match[1] == '"'


def layer_of(name, root):
    """The layer that an included name belongs to; None for the system's headers and files of the same folder."""
    first = name.split("/")[0]
    if first == "ace":
        return "public"
    return first if "/" in name and (root / "src" / name).exists() else None


def wrong_layers(root, folder, own, allowed):
    """Yields a sentence for each include of the folder's files that the table does not allow."""
    for file in sorted(folder.rglob("*")):
        if file.suffix not in SUFFIXES:
            continue
        for number, name, _ in includes(file):
            layer = layer_of(name, root)
            if layer is not None and layer != own and layer not in allowed:
                what = ", ".join(sorted(allowed)) or "nothing"
                yield f"{file.relative_to(root)}:{number}: {own} includes {name}; {own} may include only: {what}"


def cycles(root):
    """Yields a sentence for each circle of includes within src."""
    src = root / "src"
    graph = {
        str(file.relative_to(src)): [
            (name, number) for number, name, quoted in includes(file) if quoted and (src / name).exists()
        ]
        for file in sorted(src.rglob("*.h"))
    }
    done = set()

    def visit(name, path):
        if name in path:
            circle = path[path.index(name) :] + [name]
            number = dict(graph[circle[-2]])[name]
            yield f"src/{circle[-2]}:{number}: headers include one another: {' -> '.join(circle)}"
            return
        if name in done:
            return
        for included, _ in graph.get(name, []):
            yield from visit(included, path + [name])
        done.add(name)

    for name in graph:
        yield from visit(name, [])


def problems(root):
    """Yields a sentence for each broken rule, with its file and line."""
    src = root / "src"
    for folder in sorted(path for path in src.iterdir() if path.is_dir()):
        if folder.name not in MAY_INCLUDE:
            yield f"src/{folder.name}: a folder that the table in scripts/check_layers.py does not know"
            continue
        yield from wrong_layers(root, folder, folder.name, MAY_INCLUDE[folder.name])
    for outside, allowed in MAY_INCLUDE_OUTSIDE.items():
        # A nested entry of the table decides for its own folder.
        nested = [root / other for other in MAY_INCLUDE_OUTSIDE if other.startswith(outside + "/")]
        for sentence in wrong_layers(root, root / outside, outside, allowed):
            if not any((root / sentence.split(":")[0]).is_relative_to(other) for other in nested):
                yield sentence
    yield from cycles(root)


def main(arguments):
    if len(arguments) > 1:
        sys.exit(__doc__)
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).resolve().parent.parent)
    if not (root / "src").is_dir():
        sys.exit(f"{root} holds no src folder; give the repository's root")
    found = list(problems(root))
    for sentence in found:
        print(sentence, file=sys.stderr)
    if not found:
        print("layers: every include follows the table, and none goes in a circle")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

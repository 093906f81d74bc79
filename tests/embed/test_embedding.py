"""ACE in a host that others build: the amalgamation, the installed library, and what docs/embedding.md says of both.

The library that is installed, and compared with, is that of the environment variable ACE_BUILD, else `build` in the
repository.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get("ACE_BUILD", REPOSITORY / "build"))
PAGE = REPOSITORY / "docs" / "embedding.md"
EXAMPLE = REPOSITORY / "examples" / "vm.c"
USE_HEADER = REPOSITORY / "tests" / "abi" / "use_header.c"
LUA_HOST = REPOSITORY / "tests" / "hosts" / "lua_embed.c"

STRICT = ["-Wall", "-Wextra", "-Werror"]
C99 = ["-std=c99", "-pedantic", *STRICT]
CPP = ["-std=c++20", *STRICT]
AS_THE_PAGE_SAYS = ["-O2", "-DNDEBUG", "-fno-exceptions", "-fno-rtti"]


def run(*command, status=0, **more):
    """Runs it without what ACE and the loader take from the environment; returns what it wrote."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ACE_", "LD_"))}
    environment.update(more.pop("environment", {}))
    command = list(map(str, command))
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **more)
    assert answer.returncode == status, "%s\n%s%s" % (" ".join(command), answer.stdout, answer.stderr)
    return answer.stdout + answer.stderr


def need(*programs):
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        pytest.skip("absent here: %s" % ", ".join(absent))


def flags_of(package, *options, **environment):
    if subprocess.run(["pkg-config", "--exists", package], env={**os.environ, **environment}).returncode != 0:
        pytest.skip("there is no package %s here" % package)
    return run("pkg-config", *options, "--cflags", "--libs", package, environment=environment).split()


# ------------------------------------------------------------------------------------------- the amalgamation ----


@pytest.fixture(scope="module")
def amalgamation(tmp_path_factory):
    """Its folder, which is named so that <ace/ace.h> is found from the one above."""
    folder = tmp_path_factory.mktemp("amalgamation") / "ace"
    run(REPOSITORY / "scripts" / "amalgamate", "--lua", folder)
    return folder


@pytest.fixture(scope="module", params=[("gcc", "g++"), ("clang", "clang++")], ids=lambda pair: pair[0])
def compilers(request):
    need(*request.param)
    return request.param


@pytest.fixture(scope="module")
def core(amalgamation, compilers, tmp_path_factory):
    """The core as one object file, compiled where nothing else of the project is."""
    built = tmp_path_factory.mktemp("object") / "ace.o"
    run(compilers[1], *CPP, *AS_THE_PAGE_SAYS, "-fPIC", "-c", "ace.cpp", "-o", built, cwd=amalgamation)
    return built


@pytest.fixture(scope="module")
def as_built(tmp_path_factory):
    """What the host prints with the library of the build folder."""
    host, library = tmp_path_factory.mktemp("as_built") / "host", BUILD / "src" / "libace.a"
    run("cc", *C99, "-I%s" % (REPOSITORY / "include"), HERE / "host.c", library, "-pthread", "-o", host)
    return run(host)


def test_files_hold_all_and_need_none(amalgamation):
    texts = {file.name: file.read_text() for file in amalgamation.iterdir()}
    assert sorted(texts) == ["ace.cpp", "ace.h", "ace_lua.cpp", "ace_lua.h"]
    version = re.search(r"version: '([^']+)'", (REPOSITORY / "meson.build").read_text())[1]
    licence = " ".join((REPOSITORY / "LICENSE").read_text().split())
    for name, text in texts.items():
        head = text[: text.index("*/")]
        assert head.startswith("/* %s of ACE-Alloc %s: " % (name, version))
        assert licence in " ".join(head.replace("\n *", "\n").split())
        assert set(re.findall(r'#include "(.*)"', text)) <= set(texts)
    parts = re.findall(r"^// =+ (src/\S+)$", texts["ace.cpp"], re.MULTILINE)
    assert len(parts) == len(set(parts))
    sources = {str(file.relative_to(REPOSITORY)) for file in (REPOSITORY / "src").rglob("*.cpp")}
    # The shim is a library of its own, and no part of a host.
    core = {source for source in sources if not source.startswith("src/shim/")}
    assert core < sources and {part for part in parts if part.endswith(".cpp")} == core


def test_compiles_without_any_flag(amalgamation, compilers):
    """With assertions, exceptions and run-time types; ace_lua.cpp as well."""
    run(compilers[1], *CPP, "-fsyntax-only", "ace.cpp", "ace_lua.cpp", cwd=amalgamation)


def test_the_address_sanitizer_is_told(amalgamation, compilers, tmp_path):
    """Of a hardened heap's blocks, where the amalgamation is compiled for it."""
    program, source = tmp_path / "watched", tmp_path / "watched.c"
    source.write_text(
        "#include <ace/ace.h>\n"
        "int main(int count, char **words) {\n"
        "  volatile char *p = ace_heap_alloc(ace_heap_create(0), 41);\n"
        "  p[40] = 1, p[40 + count - 1] = 1;\n"
        "  return 0;\n"
        "}\n"
    )
    watch = ["-fsanitize=address", "-g", "-O1"]
    run(compilers[1], *CPP, *watch, "-c", "ace.cpp", "-o", tmp_path / "ace.o", cwd=amalgamation)
    parts = [source, tmp_path / "ace.o", "-pthread", "-lstdc++"]
    run(compilers[0], *watch, "-I..", *parts, "-o", program, cwd=amalgamation)
    environment = os.environ | {"ACE_HARDENED": "on"}
    assert subprocess.run([program], env=environment, capture_output=True).returncode == 0
    done = subprocess.run([program, "beyond"], env=environment, capture_output=True, text=True)
    assert "AddressSanitizer: use-after-poison" in done.stderr and "in main" in done.stderr, done.stderr


def test_only_the_interface_is_visible(core, amalgamation, compilers, tmp_path):
    """And a library of it needs nothing of the C++ runtime."""
    library = tmp_path / "libone.so"
    run(compilers[0], "-shared", core, "-pthread", "-o", library)
    run(sys.executable, REPOSITORY / "tests" / "abi" / "check_library.py", library, amalgamation / "ace.h")


def test_every_function_from_c99(core, amalgamation, compilers, tmp_path):
    host = tmp_path / "host"
    run(compilers[0], *C99, "-I%s" % amalgamation.parent, USE_HEADER, core, "-pthread", "-o", host)
    run(host)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_counts_as_the_library_does(language, core, amalgamation, compilers, as_built, tmp_path):
    host, flags = tmp_path / "host", C99 if language == "c" else CPP
    source = ["-I%s" % amalgamation.parent, "-x", language, HERE / "host.c", "-x", "none"]
    run(compilers[language == "c++"], *flags, *source, core, "-pthread", "-o", host)
    assert run(host) == as_built
    assert "limit_failures 1\n" in as_built


@pytest.fixture(scope="module")
def hidden_core(amalgamation, compilers, tmp_path_factory):
    """With a distribution's checks, and nothing of it visible outside."""
    built = tmp_path_factory.mktemp("hidden") / "ace.o"
    flags = ["-O0", "-D_GLIBCXX_ASSERTIONS", "-DACE_API=", *AS_THE_PAGE_SAYS[1:]]
    run(compilers[1], *CPP, *flags, "-fPIC", "-c", "ace.cpp", "-o", built, cwd=amalgamation)
    return built


def test_a_c_compiler_links_what_was_compiled_with_checks(hidden_core, amalgamation, compilers, tmp_path):
    program = tmp_path / "vm"
    run(compilers[0], "-I%s" % amalgamation.parent, EXAMPLE, hidden_core, "-pthread", "-o", program)
    run(program)


@pytest.mark.parametrize("way", ["amalgamation", "archive"])
def test_a_plugins_copy_is_not_replaced_by_the_programs(way, hidden_core, amalgamation, compilers, tmp_path):
    plugin, program, library = tmp_path / "plugin.c", tmp_path / "program.c", tmp_path / "plugin.so"
    plugin.write_text("#include <ace/ace.h>\nconst char *version(void) { return ace_version(); }\n")
    program.write_text(
        "#include <dlfcn.h>\n#include <stdio.h>\n"
        'const char *ace_version(void) { return "the program\'s"; }\n'
        "int main(int count, char **words) {\n"
        '  const char *(*version)(void) = dlsym(dlopen(words[1], RTLD_NOW), "version");\n'
        "  return puts(version()) < 0;\n"
        "}\n"
    )
    archive = [BUILD / "src" / "libace.a", "-Wl,--exclude-libs,libace.a"]
    parts = [hidden_core] if way == "amalgamation" else archive
    folders, flags = ["-I%s" % amalgamation.parent], ["-shared", "-fPIC", "-pthread", "-Wl,-z,nodelete"]
    run(compilers[0], *folders, *flags, plugin, *parts, "-o", library)
    run(compilers[0], "-rdynamic", program, "-ldl", "-o", tmp_path / "program")
    version = re.search(r"version: '([^']+)'", (REPOSITORY / "meson.build").read_text())[1]
    assert run(tmp_path / "program", library) == version + "\n"


def test_header_in_strict_cpp(compilers, tmp_path):
    """In a project that has no old casts and calls no header the system's."""
    source = tmp_path / "strict.cpp"
    source.write_text("#include <ace/ace.h>\nvoid *page() { return ace_aligned_alloc(ACE_ALIGNMENT_MAX / 256, 1); }\n")
    strict = ["-std=c++11", *STRICT, "-pedantic", "-Wold-style-cast", "-Wconversion", "-Wsign-conversion", "-Wundef"]
    run(compilers[1], *strict, "-fsyntax-only", "-I%s" % (REPOSITORY / "include"), source)


def test_binding_for_lua(core, amalgamation, compilers, tmp_path):
    lua, binding, host = flags_of("lua5.4"), tmp_path / "ace_lua.o", tmp_path / "host"
    run(compilers[1], *CPP, *AS_THE_PAGE_SAYS, "-c", "ace_lua.cpp", "-o", binding, cwd=amalgamation)
    folders = ["-I%s" % amalgamation.parent, "-I%s" % amalgamation]
    run(compilers[0], "-std=c99", *folders, LUA_HOST, binding, core, *lua, "-pthread", "-o", host)
    assert run(host) == "all holds\n"


@pytest.mark.parametrize(
    "added, said",
    [
        ("namespace {\n\nbool twice(%s n) { return n; }\n\n}  // namespace", "twice is a function of several files"),
        ('#ifdef %s\n#include "base/bits.h"\n#endif', "includes base/bits.h under a condition"),
    ],
    ids=["function of two files", "conditional include"],
)
def test_says_what_has_no_place_in_one_file(added, said, tmp_path):
    for part in ("src", "include", "scripts", "LICENSE"):
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        copy(REPOSITORY / part, tmp_path / part)
    for name, filled in (("mid", "int"), ("carve", "long")):
        file = tmp_path / "src" / "heap" / (name + ".cpp")
        file.write_text(file.read_text() + "\n" + added % filled + "\n")
    assert said in run(tmp_path / "scripts" / "amalgamate", tmp_path / "out", status=1)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ the installed library ----


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What is installed, moved elsewhere afterwards."""
    need("meson", "pkg-config")
    staging, moved = tmp_path_factory.mktemp("staging"), tmp_path_factory.mktemp("installed") / "ace"
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", staging, "--tags", "devel,runtime")
    (include,) = staging.rglob("include")
    shutil.move(include.parent, moved)
    (package,) = moved.rglob("ace.pc")
    assert "${pcfiledir}" in package.read_text(), "an old build folder: meson setup --wipe %s" % BUILD
    return moved


@pytest.fixture(scope="module")
def libraries(prefix):
    (archive,) = prefix.rglob("libace.a")
    return archive.parent


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_by_pkg_config(kind, libraries, as_built, tmp_path):
    host, options = tmp_path / "host", {"shared": [], "static": ["--static"]}[kind]
    flags = flags_of("ace", *options, PKG_CONFIG_PATH=str(libraries / "pkgconfig"))
    run("cc", *C99, *(["-static"] if options else []), HERE / "host.c", *flags, "-o", host)
    assert ("Shared library: [libace.so.1]" in run("readelf", "--dynamic", host)) == (kind == "shared")
    assert run(host, environment={"LD_LIBRARY_PATH": str(libraries)}) == as_built


def test_lua_by_pkg_config(libraries, tmp_path):
    host = tmp_path / "host"
    flags = flags_of("ace-lua", PKG_CONFIG_PATH=str(libraries / "pkgconfig")) + flags_of("lua5.4")
    run("cc", "-std=c99", LUA_HOST, *flags, "-pthread", "-o", host)
    assert run(host, environment={"LD_LIBRARY_PATH": str(libraries)}) == "all holds\n"


def configure(folder, prefix, wanted, status=0):
    need("cmake")
    where = ["-DCMAKE_PREFIX_PATH=%s" % prefix, "-DACE_WANTED=%s" % wanted]
    return run("cmake", "-S", HERE, "-B", folder, *where, status=status)


def test_by_cmake(prefix, as_built, tmp_path):
    configure(tmp_path, prefix, "0.1")
    run("cmake", "--build", tmp_path)
    assert run(tmp_path / "shared") == as_built
    assert run(tmp_path / "static") == as_built
    assert "[libace.so.1]" in run("readelf", "--dynamic", tmp_path / "shared")
    assert "libace" not in run("readelf", "--dynamic", tmp_path / "static")
    for kind in ("", "_static") if (tmp_path / "lua").exists() else ():
        assert run(tmp_path / ("lua" + kind)) == "all holds\n"


@pytest.mark.parametrize("version", ["0.99", "1.0"])
def test_cmake_refuses_what_is_not_there(version, prefix, tmp_path):
    """It names what it has found and not taken."""
    assert "AceConfig.cmake, version: " in configure(tmp_path, prefix, version, status=1)


def test_cmake_finds_the_components_that_are_there(prefix, tmp_path):
    configure(tmp_path / "there", prefix, "0.1;COMPONENTS;ace_static;lua")
    assert "no Ace::ruby" in configure(tmp_path / "absent", prefix, "0.1;COMPONENTS;lua;ruby", status=1)
    configure(tmp_path / "optional", prefix, "0.1;OPTIONAL_COMPONENTS;ruby")


@pytest.mark.parametrize("folder", ["libdir", "includedir"])
def test_cmake_where_a_folder_lies_outside_the_prefix(folder, tmp_path):
    need("meson", "cmake")
    options = ["-Dtests=false", "-Dpreload=false", "-Dpkgconfig.relocatable=false", "--prefix=/opt/ace"]
    run("meson", "setup", tmp_path / "build", REPOSITORY, *options, "--%s=/elsewhere" % folder)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(host C)\nfind_package(Ace REQUIRED)\n"
        "get_target_property(library Ace::ace IMPORTED_LOCATION)\n"
        "get_target_property(headers Ace::ace INTERFACE_INCLUDE_DIRECTORIES)\n"
        'message(STATUS "at ${library} ${headers}.")\n'
    )
    output = run("cmake", "-S", tmp_path, "-B", tmp_path, "-DAce_DIR=%s" % (tmp_path / "build" / "src"))
    wanted = "at /elsewhere/libace.so /opt/ace/include." if folder == "libdir" else " /elsewhere."
    assert wanted in output


def test_as_a_subproject_of_meson(as_built, tmp_path):
    need("meson")
    (tmp_path / "subprojects").mkdir()
    (tmp_path / "subprojects" / "ace-alloc").symlink_to(REPOSITORY)
    for host in (HERE / "host.c", LUA_HOST):
        shutil.copy(host, tmp_path)
    (tmp_path / "meson.build").write_text(
        "project('host', 'c', default_options: ['buildtype=debug', 'c_std=c99'])\n"
        "subproject('ace-alloc', default_options: ['optimization=0'])\n"
        "executable('host', 'host.c', dependencies: dependency('ace'))\n"
        "lua = dependency('lua5.4', required: false)\n"
        "executable('lua_host', 'lua_embed.c', dependencies: [dependency('ace-lua'), lua],\n"
        "           build_by_default: lua.found())\n"
    )
    run("meson", "setup", tmp_path / "build", cwd=tmp_path)
    run("ninja", "-C", tmp_path / "build")
    assert run(tmp_path / "build" / "host") == as_built
    if (tmp_path / "build" / "lua_host").exists():
        assert run(tmp_path / "build" / "lua_host") == "all holds\n"


# ------------------------------------------------------------------------------------------------- the page ----


def blocks(language):
    return re.findall(r"^```%s\n(.*?)^```$" % language, PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_page_has_the_example_whole():
    assert EXAMPLE.read_text() in blocks("c")


def test_pages_c_compiles(tmp_path):
    for number, block in enumerate(blocks("c")):
        source = tmp_path / ("%d.c" % number)
        source.write_text(block)
        run("cc", *C99, "-fsyntax-only", "-I%s" % (REPOSITORY / "include"), source)


def test_pages_commands_build_the_example(tmp_path):
    """In a folder that holds nothing of the project but the example and what the first command makes."""
    (commands,) = [block for block in blocks("sh") if "scripts/amalgamate" in block]
    (tmp_path / "scripts").symlink_to(REPOSITORY / "scripts")
    shutil.copy(EXAMPLE, tmp_path)
    output = run("sh", "-ec", commands, cwd=tmp_path)
    assert "garbage: ran, hoarding: stopped, afterwards: ran\n" in output


def test_page_says_how_the_tests_compile():
    assert " ".join(["c++", "-std=c++20", *AS_THE_PAGE_SAYS, "-c"]) in PAGE.read_text()

"""bench/ablation: its table names settings that exist, what it refuses, and a replayer that it builds."""

import pathlib
import re
import subprocess

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
ABLATION = REPOSITORY / "bench" / "ablation"


def run(*arguments):
    return subprocess.run([str(ABLATION), *arguments], capture_output=True, text=True)


def rows():
    lines = [line.split("|") for line in run().stdout.splitlines() if line.count("|") >= 2]
    return {name.strip(): settings.strip() for name, settings, *_ in lines}


def test_every_setting_is_one_of_the_build_or_an_option():
    choices = set(re.findall(r"'(\w+=\w+)'", (REPOSITORY / "meson_options.txt").read_text()))
    options = set(re.findall(r"ACE_OPTION\(\s*(\w+),", (REPOSITORY / "src" / "wire" / "options.def").read_text()))
    table = rows()
    assert len(table) > 15
    for name, settings in table.items():
        if settings.startswith(":"):
            assert settings[1:].split("=")[0] in options, name
        else:
            assert set(settings.split(",")) <= choices, name


def test_the_seed_papers_rows_are_there():
    assert {"cache-16", "cache-64", "cache-128", "refill-one", "warm-4", "no-tiers", "no-eager-free", "tail", "header",
            "tiny-only", "pool-only", "kinds"} <= set(rows())  # fmt: skip


def test_an_unknown_variant_is_refused():
    refused = run("--only", "tail,nosuch", "luajit")
    assert refused.returncode == 2
    assert "there is no variant 'nosuch'" in refused.stderr


def test_help_says_how_it_is_used():
    helped = run("--help")
    assert helped.returncode == 0
    assert "--check" in helped.stdout and "cache-64" in helped.stdout


def test_the_features_of_ace_ablate_are_rows():
    from acealloc.ablating import FEATURES

    designs = [variant for _, variants in FEATURES for variant in variants if "=" not in variant]
    assert len(designs) >= 10 and set(designs) <= set(rows())


def test_a_replayer_is_built_with_the_design():
    built = run("--replayer", "tail")
    assert built.returncode == 0, built.stderr
    replayer = built.stdout.split()[-1]
    assert replayer.endswith("ablation/tail/bindings/python/replay/ace-replay")
    usage = subprocess.run([replayer], capture_output=True, text=True)
    assert usage.returncode == 2 and usage.stderr.startswith("usage: ace-replay plan TRACE PLAN")
    assert b"prefix=tail" in pathlib.Path(replayer).read_bytes()

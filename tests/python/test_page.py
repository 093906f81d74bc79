"""The page of `ace report`, which a browser shows as well."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from acealloc.errors import Failure
from acealloc.measured import histogram_of, quantile
from acealloc.page import Page
from acealloc.page_pictures import merged, pareto
from recorded import ace


class Outside(HTMLParser):
    """Gathers whatever the page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")
                       and value and not value.startswith(("#", "data:"))]  # fmt: skip
        self.found += [tag] if tag in ("script", "link", "iframe") else []


@pytest.fixture(scope="module")
def page(traces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    done = ace("report", traces["luajit"], "--fast", "--rounds", "1", "--against", "own,glibc-hinted", "--policy",
               "held:mode=off", "-o", folder / "page.html", "--png", folder / "png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "page.html"


def test_the_page_holds_everything(page):
    text = page.read_text()
    outside = Outside()
    outside.feed(text)
    assert outside.found == []
    assert len(text) < 2_000_000 and text.count("<svg") == 4
    for words in ("Resident memory over time", "Time and memory", "How long an allocation takes", "Resident pages",
                  "× the memory of the VM", "glibc-hinted", "held", "not live"):  # fmt: skip
        assert words in text
    pictures = {path.name: path.read_bytes()[:4] for path in (page.parent / "png").iterdir()}
    assert pictures == dict.fromkeys(["memory.png", "front.png", "latency.png", "pages.png"], b"\x89PNG")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_the_page(page, tmp_path):
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=%s" % tmp_path]
    picture = tmp_path / "page.png"
    subprocess.run([*browser, "--window-size=1100,3000", "--screenshot=%s" % picture, page.as_uri()],
                   check=True, capture_output=True, timeout=120)  # fmt: skip
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)[:, :, :3]
    assert pixels.shape[:2] == (3000, 1100)
    blue = (abs(pixels - [0x0B / 255, 0x6F / 255, 0xB8 / 255]) < 0.02).all(axis=2).sum()
    red = (abs(pixels - [0xC8 / 255, 0x33 / 255, 0x1E / 255]) < 0.02).all(axis=2).sum()
    assert blue > 1000 and red > 1000, "ACE's colour is in the pictures, and empty pages in the map"


def test_a_page_needs_its_folder(traces):
    done = ace("report", traces["luajit"], "-o", "/nowhere/page.html")
    assert done.returncode == 1 and done.stderr == "ace report: there is no folder /nowhere\n"


@pytest.mark.parametrize("place, said", [("", "is a folder"), ("/nowhere/file", "there is no folder")])
def test_places_are_checked_before_anything_is_measured(place, said, traces, tmp_path):
    path = tmp_path / place
    keep = tmp_path / "keep"
    for words in (["report", traces["lua5.4"], "--keep", keep, "-o"], ["ablate", traces["lua5.4"], "--csv"],
                  ["sweep", traces["lua5.4"], "--csv"], ["simulate", "--csv"]):  # fmt: skip
        done = ace(*words, path, folder=tmp_path)
        assert done.returncode == 1 and said in done.stderr and done.stdout == "", done
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    done = ace("report", traces["lua5.4"], "--png", tmp_path / "file" / "png")
    assert done.returncode == 1 and done.stderr == "ace report: %s cannot be made: Not a directory\n" % (
        tmp_path / "file" / "png")  # fmt: skip


def test_what_was_measured_is_shown_where_it_cannot_be_written():
    done = ace("simulate", "--intervals", "100", "--csv", "/dev/full")
    assert done.returncode == 1 and "/dev/full cannot be written" in done.stderr and "Targets" in done.stdout


def test_a_page_replaces_pages_alone(page, traces, tmp_path):
    from acealloc.page import is_page

    assert is_page(page.read_bytes()) and not is_page(b"<!doctype html><html lang=en><title>mine</title>")
    (tmp_path / "mine.html").write_text("<html>mine")
    done = ace("report", traces["lua5.4"], "-o", tmp_path / "mine.html")
    assert done.returncode == 1 and "is no page of `ace report`: give another name" in done.stderr
    assert (tmp_path / "mine.html").read_text() == "<html>mine"


def test_a_page_is_whole_or_not_there(replays, tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("of before")
    monkeypatch.setattr(Path, "rename", lambda *_: open("/nowhere/page"))
    with pytest.raises(Failure, match="page.html cannot be written"):
        Page(replays["lua5.4"]).write(tmp_path / "page.html")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of before"]


def test_the_subject_must_have_run(replays):
    with pytest.raises(Failure, match="nothing was replayed on 'jemalloc'"):
        Page(replays["lua5.4"], "jemalloc")


def test_spans_are_merged():
    assert merged([(5, 6), (0, 1), (1.2, 2), (4, 7)], 0.5) == [(0, 2), (4, 7)]


def test_the_front_has_what_nobody_beats():
    points = [(3, 1, "c"), (1, 5, "a"), (2, 6, "beaten"), (2, 2, "b"), (4, 4, "beaten, too")]
    assert [name for _, _, name in pareto(points)] == ["a", "b", "c"]


def test_quantiles():
    counts = {10: 990, 1000: 9, 50_000: 1}
    assert [quantile(counts, q) for q in (0.5, 0.99, 0.995, 1)] == [10, 10, 1000, 50_015]
    assert quantile({}, 0.5) is None and histogram_of(counts).get_total_count() == 1000

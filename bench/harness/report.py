"""The tables: on the terminal, and as report.md beside the raw files."""

from rich import box
from rich.markup import escape
from rich.table import Table as Grid

from harness import compare, targets
from harness.errors import Trouble
from harness.peers import BUMP
from harness.results import good_rows, key_of, write

MB = 1e6
ABSOLUTE = (
    # column, heading, unit, form; of these the ones that a part has are shown
    ("seconds_cpu", "CPU s", 1, "%.2f"),
    ("value_seconds", "value s", 1, "%.4g"),
    ("ops_per_second", "Mops/s", 1e6, "%.2f"),
    ("bytes_per_second", "MB/s", MB, "%.0f"),
    ("peak_rss", "peak MB", MB, "%.1f"),
    ("rss_rest", "at rest MB", MB, "%.1f"),
    ("area", "area MB.s", MB, "%.0f"),
    ("excess", "excess MB.s", MB, "%.0f"),
    ("vmsize", "VmSize MB", MB, "%.0f"),
    ("faults", "faults", 1, "%.0f"),
    ("fragmentation", "resident / live", 1, "%.2f"),
    ("purges", "purges", 1, "%.0f"),
    ("purge_seconds", "purging ms", 1e-3, "%.1f"),
    ("walk_seconds", "of it looking ms", 1e-3, "%.1f"),
    ("worker_seconds", "worker ms", 1e-3, "%.1f"),
    ("walked_bytes", "at MB", MB, "%.0f"),
    ("returned_bytes", "returned MB", MB, "%.0f"),
    ("rest_heap", "heap at rest MB", MB, "%.2f"),
    ("rest_live_pages", "its live pages MB", MB, "%.2f"),
    ("metadata", "metadata MB", MB, "%.2f"),
    ("heap_peak", "heap peak MB", MB, "%.1f"),
)
HELP = (
    "Each cell is {subject} / the peer: the median of the rounds' ratios, and in brackets the 95% interval of that "
    "median (from {rounds} rounds on). Below 1 {subject} takes less. 'all' is the geometric mean over the programs. "
    "'best peer' is the one that takes least in that program, of those that are not told of collections; forms of ACE "
    "are none. 'limit' is the best peer, or a malloc that only counts upwards and never frees where that takes less."
)


def subject_of(rows, wanted):
    """The allocator that the others are compared with."""
    peers = {row["peer"] for row in rows}
    subject = wanted or "ace"
    if subject not in peers:
        raise Trouble("no good run of '%s' is there to compare with; --subject names another: %s" % (
            subject, ", ".join(sorted(peers)) or "there is none at all"))  # fmt: skip
    return subject


def ratio_rows(table, subject, metric, digits=3):
    """The heading and the rows of one table of ratios: texts."""
    names = table.names()
    peers = [peer for peer in table.peers() if peer != subject and table.mean(subject, peer, metric)]
    rivals = table.rivals(subject)
    bests = {"best peer": rivals, **({"limit": [*rivals, BUMP]} if BUMP in peers else {})} if rivals else {}
    rows = []
    for program, name in names.items():
        found = [table.ratio(program, subject, peer, metric) for peer in peers]
        if any(found):
            best = [table.best(program, subject, metric, among) for among in bests.values()]
            rows.append([name, *(ratio.text(digits) if ratio else "" for ratio in found),
                         *("%s %s" % (one[0].text(digits), one[1]) if one else "" for one in best)])  # fmt: skip
    if len(rows) > 1:
        means = [table.mean(subject, peer, metric) for peer in peers]
        means += [table.mean_of_best(subject, metric, among) for among in bests.values()]
        rows.append(["all", *(mean_text(mean, len(names), digits) for mean in means)])
    return ["program", *peers, *bests], rows


def mean_text(mean, programs, digits):
    if mean is None:
        return ""
    return mean.text(digits) + ("" if mean.count == programs else " (of %d)" % mean.count)


def absolute_rows(table):
    columns = [c for c in ABSOLUTE if any(table.median(p, peer, c[0]) is not None for p in table.rows
                                          for peer in table.peers())]  # fmt: skip
    rows = []
    for program, name in table.names().items():
        for peer in table.peers():
            if peer not in table.rows[program]:
                continue
            values = [table.median(program, peer, column) for column, *_ in columns]
            cells = ["" if v is None else form % (v / unit) for v, (_, _, unit, form) in zip(values, columns)]
            rows.append([name, peer, *cells, str(len(table.rows[program][peer]))])
    return ["program", "allocator", *(heading for _, heading, *_ in columns), "rounds"], rows


def failures(rows):
    """What was run and never came to a good end."""
    good = good_rows(rows)
    lines = {}
    for row in rows:
        if row["status"] == "failed" and key_of(row) not in good:
            where = "%s %s %s on %s" % (row["host"], row["program"], row["args"], row["peer"])
            lines.setdefault(where, []).append(row["note"])
    return ["%s: %d rounds failed: %s" % (where, len(notes), notes[-1]) for where, notes in lines.items()]


def skips(rows):
    """What cannot be run."""
    lines = {"%s %s on %s: %s" % (row["host"], row["program"], row["peer"], row["note"]): None
             for row in rows if row["status"] == "skipped"}  # fmt: skip
    return list(lines)


def grid(title, heading, rows, subject, left=1):
    """left: so many columns are words."""
    result = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, column in enumerate(heading):
        heading_text = column.replace("-hinted", "\nhinted")  # narrow enough for eight allocators on a terminal
        result.add_column(heading_text, justify="left" if i < left else "right", no_wrap=i == 0, overflow="fold")
    for row in rows:
        result.add_row(*row, style="bold" if row[0] == "all" or row[1] == subject else "")
    return result


def markdown(heading, rows):
    lines = ["| %s |" % " | ".join(heading), "|%s" % (" --- |" * len(heading))]
    return lines + ["| %s |" % " | ".join(row) for row in rows]


def show(store, rows, wanted, console):
    """Tables of ratios to the terminal."""
    good = list(good_rows(rows).values())
    subject = subject_of(good, wanted)
    tables = compare.tables(good, store.forms_of_ace())
    heading, lines = targets.rows(tables, subject)
    if lines:
        console.print(grid("targets of %s" % subject, heading, lines, subject, left=2))
        console.print(targets.HELP + "\n", style="dim")
    for table in tables:
        for metric in table.metrics:
            heading, lines = ratio_rows(table, subject, metric, digits=2)
            if lines:
                title = "%s: %s, %s / the others" % (table.title, metric.name, subject)
                console.print(grid(title, heading, lines, subject))
    console.print(HELP.format(subject=subject, rounds=compare.FEWEST_ROUNDS), style="dim")
    for line in skips(rows):
        console.print("skipped: %s" % escape(line), style="yellow", soft_wrap=True)
    for line in failures(rows):
        console.print(escape(line), style="red", soft_wrap=True)


def write_markdown(store, rows, wanted, pictures):
    """report.md: ratios, absolute figures, failures, machine. Returns its path."""
    good = list(good_rows(rows).values())
    subject = subject_of(good, wanted)
    lines = ["# %s and its rivals" % ("ACE" if subject == "ace" else subject), ""]
    tables = compare.tables(good, store.forms_of_ace())
    heading, reached = targets.rows(tables, subject)
    if reached:
        lines += ["## Targets", "", *markdown(heading, reached), "", targets.HELP, ""]
    lines += ["## Tables", ""]
    lines += [HELP.format(subject=subject, rounds=compare.FEWEST_ROUNDS), ""]
    for table in tables:
        lines += ["## %s" % table.title, ""]
        for picture in pictures.get((table.part, table.host), []):
            lines += ["![%s](%s)" % (table.title, picture.name), ""]
        for metric in table.metrics:
            heading, body = ratio_rows(table, subject, metric)
            if body:
                title = "%s, %s / the others:" % (metric.name.capitalize(), subject)
                lines += [title, "", *markdown(heading, body), ""]
        heading, body = absolute_rows(table)
        lines += ["Medians of what was measured:", "", *markdown(heading, body), ""]
    skipped, failed = skips(rows), failures(rows)
    if skipped:
        lines += ["## Skipped", "", *("- %s" % line for line in skipped), ""]
    if failed:
        lines += ["## Failed", "", *("- %s" % line for line in failed), ""]
    lines += machine_lines(store.sessions())
    path = store.folder / "report.md"
    write(path, "\n".join(lines))
    return path


def machine_lines(sessions):
    if not sessions:
        return []
    lines = ["## Machine and versions", ""]
    last = sessions[-1]
    simple = ("processor", "cores", "kernel", "libc", "transparent_huge_pages")
    lines += ["- %s: %s" % (name.replace("_", " "), last.get(name)) for name in simple]
    hosts, peers, commits, suites = {}, {}, set(), {}
    for session in sessions:
        hosts.update(session["hosts"])
        peers.update(session["peers"])
        suites.update(session.get("suites", {}))
        commits.add(session["ace_commit"])
    lines += ["- %s: %s" % item for item in hosts.items()]
    lines += ["- %s: %s" % (name, " ".join(filter(None, (p["file"], p.get("package", ""), str(p.get("options", ""))))))
              for name, p in peers.items()]  # fmt: skip
    lines += ["- %s: commit %s" % item for item in suites.items()]
    lines += ["- ACE: commit %s" % ", ".join(sorted(commits)), "", "Commands:", ""]
    return lines + ["    " + session["command"] for session in sessions] + [""]

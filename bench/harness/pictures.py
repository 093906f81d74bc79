"""The pictures, drawn from the raw files: ratios of each program, and resident memory over time."""

import re

from harness import compare
from harness.results import good_rows, key_of

MB = 1e6
# Each allocator keeps its colour in all pictures; its hinted form has the same, dashed or hollow.
COLOURS = {
    "own": "#6f6f6f", "glibc": "#a5763f", "mimalloc": "#e08e0b", "jemalloc": "#b3312f", "tcmalloc": "#3d8b41",
    "ace": "#0b6fb8", "bump": "#bdbdbd",
}  # fmt: skip
# From so many forms of ACE on they are rows of a picture, as in an ablation, and the programs its dots.
MANY_VARIANTS = 4
MORE_COLOURS = ("#7b4fa3", "#1f9d9d", "#c2579a", "#5a6b1f", "#403f8f")


def draw_all(store, rows, subject):
    """All pictures of an output folder. Returns their paths, by (part, host)."""
    import matplotlib

    matplotlib.use("Agg")
    good = good_rows(rows)
    series = store.read_samples()
    pictures = {}
    for table in compare.tables(good.values(), store.forms_of_ace()):
        colours = colours_of(table.peers())
        variants = [peer for peer in table.peers() if peer in table.ours and peer != subject]
        if len(variants) >= MANY_VARIANTS:
            paths = [draw_variants(table, subject, variants, store.folder)]
        else:
            paths = [draw_ratios(table, subject, colours, store.folder)]
        if table.part in ("swell", "rhythm", "services"):
            paths.append(draw_swell(table, good, series, colours, store.folder))
        pictures[table.part, table.host] = [path for path in paths if path]
    return pictures


def base_of(peer):
    return peer.removesuffix("-hinted")


def colours_of(peers):
    colours, more = dict(COLOURS), list(MORE_COLOURS)
    for peer in peers:
        if base_of(peer) not in colours:
            colours[base_of(peer)] = more.pop(0) if more else "#000000"
    return {peer: colours[base_of(peer)] for peer in peers}


def file_name(*words):
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)) + ".png"


def draw_ratios(table, subject, colours, folder):
    """One panel for each metric; a row for each program, a dot with its interval for each peer."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    peers = [peer for peer in table.peers() if peer != subject]
    if not peers or not any(subject in by_peer for by_peer in table.rows.values()):
        return None
    names = table.names()
    labels = [*names.values()] + ["all (geometric mean)"] * (len(names) > 1)
    height = 1.9 + len(labels) * max(0.34, 0.1 * len(peers))
    figure, panels = plt.subplots(1, len(table.metrics), figsize=(3.2 + 3.6 * len(table.metrics), height), sharey=True,
                                  squeeze=False)  # fmt: skip
    for panel, metric in zip(panels[0], table.metrics):
        low, high = 1.0, 1.0
        for k, peer in enumerate(peers):
            dots = [table.ratio(program, subject, peer, metric) for program in names]
            dots += [table.mean(subject, peer, metric)] * (len(names) > 1)
            places = [(i + ((k + 0.5) / len(peers) - 0.5) * 0.76, dot) for i, dot in enumerate(dots) if dot]
            if not places:
                continue
            hollow = peer != base_of(peer)
            for y, dot in places:
                if dot.low is not None:
                    panel.plot([dot.low, dot.high], [y, y], color=colours[peer], linewidth=1.4, alpha=0.7)
            panel.plot([dot.value for _, dot in places], [y for y, _ in places], "o", color=colours[peer], markersize=5,
                       markerfacecolor="white" if hollow else colours[peer], label=peer)  # fmt: skip
            low = min(low, *(dot.value if dot.low is None else dot.low for _, dot in places))
            high = max(high, *(dot.value if dot.high is None else dot.high for _, dot in places))
        panel.axvline(1, color="black", linewidth=1)
        if len(names) > 1:
            panel.axhspan(len(labels) - 1.5, len(labels) - 0.5, color="#0b6fb8", alpha=0.08)
        for i in range(len(labels) - 1):
            panel.axhline(i + 0.5, color="#dddddd", linewidth=0.6)
        panel.set_xscale("log", base=2)
        low, high = low / 1.05, high * 1.05
        panel.set_xlim(low, high)
        if high / low < 8:
            steps = [s for s in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4)
                     if low <= s <= high]  # fmt: skip
            panel.set_xticks(thin(steps, 8))
        else:
            panel.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "%.3g" % value))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(axis="x", alpha=0.3)
        panel.set_title(metric.name, fontsize=11, fontweight="bold")
        panel.set_xlabel("%s / the allocator" % subject)
        panel.spines[["top", "right"]].set_visible(False)
    first = panels[0][0]
    first.set_yticks(range(len(labels)), labels)
    first.set_ylim(len(labels) - 0.5, -0.5)
    handles, texts = first.get_legend_handles_labels()
    figure.suptitle("%s: left of 1, %s takes less" % (table.title, subject), fontsize=12)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / height))
    figure.legend(handles, texts, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.28 / height), ncol=max(len(texts), 1),
                  frameon=False, fontsize=9, columnspacing=1.2, handletextpad=0.2)  # fmt: skip
    path = folder / file_name("ratios", *([] if table.host.startswith(table.part) else [table.part]), table.host)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def draw_variants(table, subject, variants, folder):
    """One panel for each metric; a row for each variant, a grey dot for each program, the mean with its interval."""
    import matplotlib.pyplot as plt

    if not any(subject in by_peer for by_peer in table.rows.values()):
        return None
    height = 1.6 + 0.3 * len(variants)
    figure, panels = plt.subplots(1, len(table.metrics), figsize=(2.6 + 4.2 * len(table.metrics), height), sharey=True,
                                  squeeze=False)  # fmt: skip
    for panel, metric in zip(panels[0], table.metrics):
        for y, variant in enumerate(variants):
            dots = [table.ratio(program, variant, subject, metric) for program in table.rows]
            dots = [dot.value for dot in dots if dot]
            mean = table.mean(variant, subject, metric)
            panel.plot(dots, [y] * len(dots), "o", color="#9a9a9a", markersize=4, markerfacecolor="white")
            if mean is None:
                continue
            if mean.low is not None:
                panel.plot([mean.low, mean.high], [y, y], color=COLOURS["ace"], linewidth=2)
            panel.plot(mean.value, y, "o", color=COLOURS["ace"], markersize=6)
            panel.annotate("%.2f" % mean.value, (1.0, y), xycoords=("axes fraction", "data"), xytext=(4, 0),
                           textcoords="offset points", va="center", fontsize=9)  # fmt: skip
        panel.axvline(1, color="black", linewidth=1)
        panel.set_xscale("symlog" if panel.get_xlim()[1] > 8 else "linear")
        panel.grid(axis="x", alpha=0.3)
        panel.set_title(metric.name, fontsize=11, fontweight="bold")
        panel.set_xlabel("the variant / %s" % subject)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_yticks(range(len(variants)), variants)
    panels[0][0].set_ylim(len(variants) - 0.5, -0.5)
    figure.suptitle("%s: right of 1, a variant takes more than %s; blue over all programs, grey each of them" % (
        table.title, subject), fontsize=11)  # fmt: skip
    figure.tight_layout()
    path = folder / file_name("variants", *([] if table.host.startswith(table.part) else [table.part]), table.host)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def thin(steps, most):
    """Not more than so many, the 1 always among them."""
    while len(steps) > most:
        one = steps.index(1)
        steps = [s for i, s in enumerate(steps) if (i - one) % 2 == 0]
    return steps


def middle_run(by_round):
    """Of several rounds the one whose area is the median: a real run, no average of curves."""
    ordered = sorted((row for row in by_round.values() if row["area"]), key=lambda row: row["area"])
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def draw_swell(table, good, series, colours, folder):
    """Resident memory over time: a panel for each share of survivors, a line for each allocator."""
    import matplotlib.pyplot as plt

    names = table.names()
    figure, panels = plt.subplots(len(names), 1, figsize=(10.5, 3.1 * len(names) + 0.8), squeeze=False)
    for panel, (program, name) in zip(panels[:, 0], names.items()):
        for peer, by_round in table.rows[program].items():
            row = middle_run(by_round)
            points = series.get(key_of(row)) if row else None
            if not points:
                continue
            ace = peer == "ace"
            times, megabytes = zip(*((at, resident / MB) for at, resident in points))
            label = "%s: %.0f" % (peer, table.median(program, peer, "rss_rest") / MB)
            panel.plot(times, megabytes, color=colours[peer], linewidth=2.2 if ace else 1.3, zorder=3 if ace else 2,
                       linestyle="--" if peer != base_of(peer) else "-", label=label)  # fmt: skip
            if ace:
                panel.fill_between(times, megabytes, color=colours[peer], alpha=0.15)
        panel.set_title(name, loc="left", fontsize=11, fontweight="bold")
        panel.set_ylabel("MB resident")
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(title="MB at rest", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    panels[-1, 0].set_xlabel("seconds")
    figure.suptitle("%s: resident memory of a program that swells, drops its data and rests" % table.host, fontsize=12)
    figure.tight_layout()
    path = folder / file_name("memory", *([table.part] if table.part != "swell" else []), table.host)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path

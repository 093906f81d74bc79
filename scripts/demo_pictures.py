"""The demo's pictures: resident memory over time, a panel for each program, a line for each allocator."""

import statistics

MB = 1e6
# Grey is what everybody has; ACE is filled, so that it is found at once.
COLOURS = {"its own": "#8a8a8a", "mimalloc": "#e08e0b", "ACE": "#0b6fb8"}
TITLE = "Resident memory of programs that swell, drop 99.9 % of their data, and rest"


def middle(runs, program, allocator):
    """Of several turns, the run whose area is the median: a real run, not an average of curves."""
    candidates = sorted((r for r in runs if (r.program, r.allocator) == (program, allocator)), key=lambda r: r.area)
    return candidates[(len(candidates) - 1) // 2]


def verdict(runs, program):
    """One line that says who wins at rest: the medians over all turns."""
    own, ace = (
        statistics.median(r.at_rest for r in runs if (r.program, r.allocator) == (program.name, a)) / MB
        for a in ("its own", "ACE")
    )
    return "%s: at rest %.0f MB on ACE instead of %.0f MB (%.2f of it)" % (program.name, ace, own, ace / own)


def draw_png(programs, runs, path):
    """Draws with Matplotlib; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(programs), 1, figsize=(10, 3.1 * len(programs) + 0.6), squeeze=False)
    for panel, program in zip(panels[:, 0], programs):
        for allocator in program.allocators:
            run = middle(runs, program.name, allocator)
            times, megabytes = zip(*((at, resident / MB) for at, resident in run.samples))
            colour = COLOURS[allocator]
            width = 2.2 if allocator == "ACE" else 1.6
            panel.plot(times, megabytes, color=colour, linewidth=width, label=allocator)
            if allocator == "ACE":
                panel.fill_between(times, megabytes, color=colour, alpha=0.18)
        panel.set_title(verdict(runs, program), loc="left", fontsize=11, fontweight="bold")
        panel.set_ylabel("MB resident")
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(title="allocator", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    panels[-1, 0].set_xlabel("seconds")
    figure.suptitle(TITLE, fontsize=13)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def draw_html(programs, runs, path):
    """Draws with Plotly into one file that needs no network; returns the path."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [verdict(runs, program) for program in programs]
    figure = make_subplots(rows=len(programs), cols=1, subplot_titles=titles, vertical_spacing=0.09)
    for row, program in enumerate(programs, 1):
        for allocator in program.allocators:
            run = middle(runs, program.name, allocator)
            figure.add_trace(
                go.Scatter(
                    x=[at for at, _ in run.samples],
                    y=[resident / MB for _, resident in run.samples],
                    name=allocator,
                    legendgroup=allocator,
                    showlegend=row == 1,
                    line={"color": COLOURS[allocator], "width": 2.5 if allocator == "ACE" else 1.8},
                    fill="tozeroy" if allocator == "ACE" else None,
                    hovertemplate="%{y:.1f} MB at %{x:.2f} s",
                ),
                row=row,
                col=1,
            )
        figure.update_yaxes(title_text="MB resident", rangemode="tozero", row=row, col=1)
    figure.update_xaxes(title_text="seconds", row=len(programs), col=1)
    figure.update_layout(title=TITLE, height=330 * len(programs) + 80, template="plotly_white")
    figure.write_html(path, include_plotlyjs=True)
    return path

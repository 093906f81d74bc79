"""The picture of `ace simulate`: python -m harness.simulated FIGURES.csv PICTURE.png"""

import csv
import sys

SERIES = (
    ("best fixed delay", "#b3312f", lambda row: 1.0),
    ("learned", "#0b6fb8", lambda row: float(row["learned"]) / float(row["best_fixed"])),
    ("shuffled rewards", "#9a9a9a", lambda row: float(row["shuffled"]) / float(row["best_fixed"])),
    ("Elo", "#7b4fa3", lambda row: float(row["elo"]) / float(row["best_fixed"])),
    ("offline optimum", "#3d8b41", lambda row: float(row["offline"]) / float(row["best_fixed"])),
)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with open(sys.argv[1], newline="") as file:
        rows = list(csv.DictReader(file))
    figure, panel = plt.subplots(figsize=(8.5, 1.2 + 0.32 * len(rows)))
    for name, colour, value in SERIES:
        panel.plot([value(row) for row in rows], range(len(rows)), "o", color=colour, label=name, markersize=6,
                   markerfacecolor="white" if name == "shuffled rewards" else colour)  # fmt: skip
    panel.set_yticks(range(len(rows)), [row["trace"] for row in rows])
    panel.invert_yaxis()
    panel.axvline(1, color="black", linewidth=1)
    panel.grid(axis="x", alpha=0.3)
    panel.set_xlabel("cost of memory / that of the best fixed delay in hindsight")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="upper center", bbox_to_anchor=(0.35, 1.07), ncol=len(SERIES), frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=110)


if __name__ == "__main__":
    main()

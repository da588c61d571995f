"""The plot of CPU time against the size of a job's document, as an SVG file."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from .place import label
from .table import Row

# In the order of the legend. A baseline has the colour of what is compared with it.
_STYLES = {
    "create from a path": "C1o-",
    "create from bytes": "C0o-",
    "bare httpx from a path": "C1o:",
    "bare httpx from bytes": "C0o:",
    "lower bound": "C7o--",
}


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes the rows that are points of a curve."""
    import matplotlib as mpl  # noqa: PLC0415 - takes long to import, and only this function needs it

    mpl.use("svg")
    # Text stays text, so that a reader can search it, and equal figures give an equal file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "posten-signering"})
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    curves = defaultdict[str, dict[int, float]](dict)
    for row in rows:
        if row.size is not None:
            for curve, values in ((row.curve, row.measured), (row.baseline_curve, row.baseline)):
                if curve:
                    curves[curve][row.size] = median(values)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for curve, style in _STYLES.items():
        axes.plot([*curves[curve]], [*curves[curve].values()], style, label=curve, markersize=4)
    sizes = sorted({size for points in curves.values() for size in points})
    axes.set(xscale="log", yscale="log", xlabel="size of the document", ylabel="CPU time in ms")
    axes.set_xticks(sizes, [label(size) for size in sizes])
    axes.minorticks_off()
    ticks = (0.5, 1, 2, 5, 10, 20, 50)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)

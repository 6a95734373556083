"""The style of all pictures: colours, a figure that ends as a file, and quiet axes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from jumpy_mbrl.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22303a"
FAINT = "#7d888f"
GRID = "#e6eaec"
PALE = "#c3cbd0"
OURS = "#2f7d5e"
BAD = "#b5483a"
ORACLE = "#b8935a"

_STYLE: Any = {
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": PALE,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}


@contextmanager
def new_figure(
    path: str | os.PathLike[str],
    size: tuple[float, float],
    layout: Literal["constrained"] | None = None,
    font_size: float = 11.0,
    dpi: int = 130,
) -> Iterator[Figure]:
    """An empty figure of so many inches, written to ``path``, atomically, when the block ends.

    With no ``layout`` the caller places everything. Raises ImportError without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "drawing needs matplotlib, which is not installed; pip install 'jumpy-mbrl[viz]'"
        ) from None

    with matplotlib.rc_context({**_STYLE, "font.size": font_size}):
        figure = Figure(figsize=size, facecolor="white", layout=layout)
        yield figure
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=dpi)


def heading(figure: Figure, text: str) -> None:
    """The title of a figure with a constrained layout, above all of it on the left."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, weight="bold")


def percent_bars(
    axes: Axes,
    places: Sequence[float],
    shares: Sequence[float],
    intervals: Sequence[Sequence[float]],
    **look: Any,
) -> None:
    """Points of a line at shares from 0 to 1, drawn in percent, with an interval around each."""
    below = [100.0 * (share - low) for share, (low, _) in zip(shares, intervals, strict=True)]
    above = [100.0 * (high - share) for share, (_, high) in zip(shares, intervals, strict=True)]
    values = [100.0 * share for share in shares]
    axes.errorbar(places, values, yerr=(below, above), marker="o", elinewidth=1.0, **look)


def tidy(axes: Axes) -> None:
    """A faint grid, and nothing else around the data but the axes themselves."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)


def percent_axis(axes: Axes, rows: list[str]) -> None:
    """Names of the rows from the top down, and percents along the bottom."""
    axes.set_yticks(range(len(rows)), rows, fontsize=12, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 116)
    axes.set_xticks([0, 20, 40, 60, 80, 100])
    axes.set_xlabel("success, %")
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=GRID, linewidth=1.0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


TITLE: dict[str, Any] = {"fontsize": 16, "weight": "bold", "va": "center"}
CAPTION: dict[str, Any] = {"color": FAINT, "va": "center"}

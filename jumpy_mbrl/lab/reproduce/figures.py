"""The pictures of the papers' tasks: samples with their ticks, jumps over training, capacity.

All are drawn from results alone, see `jumpy_mbrl.lab.reproduce.results`. Without matplotlib they
raise ImportError. Those of a quick run say that its figures mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.lab import style
from jumpy_mbrl.lab.reproduce import table
from jumpy_mbrl.lab.store import span
from jumpy_mbrl.training.presets import NETWORKS, SETTINGS, network_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Found = Mapping[str, Any]

SHOWN = ("rnn", "jumpy-rnn", "ours", "keypoints")
"""Whose samples are drawn, as far as there are any; without these, those of all models."""
SHOWN_ON_WEATHER = ("rnn", "jump-2", "jumpy-rnn", "ours")
"""The same on weather, where the papers' figure 7 has constant jumps too."""

_COLORS = {
    "rnn": "#b5483a",
    "ode-rnn": "#8a6bb1",
    "jump-1": "#d9c29b",
    "jump-2": "#c9a46b",
    "jump-4": "#b58a44",
    "jump-8": "#8a6425",
    "jumpy-rnn": "#3b76af",
    "ours": "#2f7d5e",
    "keypoints": "#8fb84e",
}
_FORCED = "#a3adb3"
_SIDE = 28
_HUGE = 1e30
"""Training writes errors that were not finite as the largest number; those are not drawn."""
_DOTS = "pale dots: validation sequences;\nall else: evaluation sequences"


def save_task_figures(report: Found, samples: Found, capacity: Found, out: Path) -> list[Path]:
    """Draws all that there are results for, of each network by its best settings and first seed.

    Returns the paths of ``samples-TASK.png`` and ``jumps-TASK.png`` for each task with a run that
    succeeded, and of ``capacity.png``.
    """
    paths = list[Path]()
    for task, entries in table.in_order(report["tasks"]).items():
        good = {name: runs[0] for name in entries if (runs := table.succeeded(entries[name]))}
        kept = samples.get(task) or {}
        drawn = {name: kept[name] for name in good if kept.get(name) is not None}
        if drawn:
            paths.append(out / f"samples-{task}.png")
            save_samples_figure(task, drawn, paths[-1], report["quick"])
        if good:
            paths.append(out / f"jumps-{task}.png")
            shown = {name: good[name] for name in _by_best_settings(good, (*NETWORKS, *SHOWN[-2:]))}
            save_jumps_figure(task, shown, paths[-1], report["quick"])
    if any(map(_scored, capacity["models"].values())):
        paths.append(out / "capacity.png")
        save_capacity_figure(capacity["models"], paths[-1], capacity["quick"])
    return paths


@contextmanager
def _figure(path: Path, size: tuple[float, float], title: str, quick: bool) -> Iterator[Figure]:
    with style.new_figure(path, size, layout="constrained", font_size=10.0, dpi=110) as figure:
        yield figure
        style.heading(figure, f"{title} (quick run: the figures mean nothing)" if quick else title)


# -- samples -------------------------------------------------------------------------------------


def save_samples_figure(task: str, samples: Found, path: Path, quick: bool = False) -> None:
    """Draws sequences of a task as they were and as models imagine them; dots are ticks.

    ``samples`` holds by model what `jumpy_mbrl.lab.reproduce.samples.record_samples` gives.
    """
    source = TASKS[task].source
    preferred = SHOWN_ON_WEATHER if source == "weather" else SHOWN
    shown = {name: samples[name] for name in _by_best_settings(samples, preferred) or samples}
    rows = len(next(iter(shown.values()))["ways"])
    draw: Callable[[Figure, str, Found], None] = _draw_ways
    size, key = (3.4 * max(len(shown), 2) + 0.6, 3.2 * rows + 0.7), "grey: what happened; "
    if source == "pixels":
        draw, size, key = _draw_films, (9.5, 0.9 + 1.15 * (len(shown) + 1)), ""
    elif source == "weather":
        draw, size = _draw_weather, (4.0 * rows, 5.6)
    with _figure(path, size, f"{TASKS[task].title}: samples", quick) as figure:
        draw(figure, task, shown)
        key += "black: frames shown; coloured dots: ticks"
        figure.supxlabel(key, fontsize=9, color=style.FAINT)


def _draw_ways(figure: Figure, task: str, samples: Found) -> None:
    """One column for each model, one row for each sequence."""
    rows = len(next(iter(samples.values()))["ways"])
    grid = figure.subplots(rows, len(samples), squeeze=False)
    for column, (name, sample) in zip(grid.T, samples.items(), strict=True):
        column[0].set_title(name, loc="left", color=_color(name), weight="bold")
        for axes, values, way in zip(column, sample["truth"], sample["ways"], strict=True):
            truth = _array(values)
            if task == "billiards1d":
                _draw_truth(axes, task, truth)
                _draw_way(axes, way, range(truth.shape[1]), name)
                axes.set_xlabel("frame")
            else:
                _draw_paths(axes, task, truth, way, name)
            style.tidy(axes)


def _draw_truth(axes: Axes, task: str, truth: NDArray[np.float64]) -> None:
    """What really happened over time, (T, D), which stays in view however far a model strays."""
    shown = TASKS[task].context_frames
    low, high = float(truth.min()), float(truth.max())
    margin = 0.25 * (high - low) + 1e-3
    axes.set_ylim(low - margin, high + margin)
    axes.plot(truth, color=style.PALE, linewidth=4.0, solid_capstyle="round", label="truth")
    axes.plot(range(shown), truth[:shown], "o", color="black", markersize=3, zorder=3)


def _draw_way(axes: Axes, way: Found, places: Iterable[int], name: str) -> None:
    """Some numbers of imagined frames over time."""
    obs, ticks, color = _array(way["obs"]), _array(way["tick_obs"]), _color(name)
    for place in places:
        axes.plot(_array(way["time"]), obs[:, place], color=color, linewidth=1.2, label=name)
        if len(ticks):
            axes.plot(way["tick_times"], ticks[:, place], "o", color=color, markersize=4)


def _draw_paths(axes: Axes, task: str, truth: NDArray[Any], way: Found, name: str) -> None:
    """Ways in the plane, from light to dark as time goes by."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    obs, ticks, shown = _array(way["obs"]), _array(way["tick_obs"]), TASKS[task].context_frames
    fading = LinearSegmentedColormap.from_list("fading", ["#ffffff", _color(name)])
    for place in range(0, truth.shape[1], 2):
        x_y = slice(place, place + 2)
        axes.plot(*truth[:, x_y].T, color=style.PALE, linewidth=4.0, solid_capstyle="round")
        pieces = np.stack([obs[:-1, x_y], obs[1:, x_y]], axis=1)
        whole = np.isfinite(pieces).all(axis=(1, 2))
        shades = fading(np.linspace(0.35, 1.0, len(pieces)))[whole]
        if whole.any():
            axes.add_collection(LineCollection(list(pieces[whole]), colors=shades, linewidths=1.6))
        if len(ticks):
            axes.plot(*ticks[:, x_y].T, "o", color=_color(name), markersize=4)
        axes.plot(*truth[:shown, x_y].T, "o", color="black", markersize=3)
    limits = ((-0.1, 2.1), (0.0, 1.0)) if task == "lines" else ((-2.3, 2.3),) * 2
    if TASKS[task].source == "table":
        limits = ((0.0, 1.0),) * 2
    axes.set(xlim=limits[0], ylim=limits[1], aspect="auto" if task == "lines" else "equal")


def _draw_films(figure: Figure, task: str, samples: Found) -> None:
    """The truth and each model as a strip of pictures, its ticks on a line below."""
    first = next(iter(samples.values()))
    strips: list[Any] = [("truth", first["film"], first["truth"][0], [])]
    for name, sample in samples.items():
        way = sample["ways"][0]
        strips.append((name, sample["film"], way["obs"], way["tick_times"]))
    grid = figure.subplots(len(strips), 1, squeeze=False, sharex=True)[:, 0]
    shown = TASKS[task].context_frames
    for axes, (name, film, pictures, ticks) in zip(grid, strips, strict=True):
        half = 0.46 * (film[1] - film[0])
        for frame, text in zip(film, pictures, strict=True):
            picture = np.frombuffer(bytes.fromhex(text), dtype=np.uint8).reshape(_SIDE, _SIDE)
            place = (frame - half, frame + half, 0.0, 1.0)
            axes.imshow(picture, extent=place, cmap="gray", vmin=0, vmax=255, aspect="auto")
        axes.plot(ticks, [-0.14] * len(ticks), "o", color=_color(name), markersize=3.6)
        axes.plot(range(shown), [-0.14] * shown, "o", color="black", markersize=3)
        axes.set(xlim=(-1.0, film[-1] + half + 0.5), ylim=(-0.28, 1.04), yticks=[])
        axes.set_ylabel(name, rotation=0, ha="right", va="center", color=_color(name))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    grid[-1].set_xlabel("frame")


def _draw_weather(figure: Figure, task: str, samples: Found) -> None:
    """Temperature and pressure over time; the frames before the vertical line are shown."""
    truth = _array(next(iter(samples.values()))["truth"])
    grid = figure.subplots(2, len(truth), squeeze=False)
    for (feature, column), axes in np.ndenumerate(grid):
        _draw_truth(axes, task, truth[column, :, feature, None])
        for name, sample in samples.items():
            _draw_way(axes, sample["ways"][column], [feature], name)
        axes.axvline(TASKS[task].context_frames - 1, color=style.FAINT, linewidth=1.0)
        style.tidy(axes)
    for axes, label in zip(grid[:, 0], ("temperature, °C", "pressure, mbar"), strict=True):
        axes.set_ylabel(label)
    for axes in grid[-1]:
        axes.set_xlabel("step of 30 minutes")
    grid[0, 0].legend(frameon=False, fontsize=8)


# -- jumps and capacity --------------------------------------------------------------------------


def save_jumps_figure(task: str, entries: Found, path: Path, quick: bool = False) -> None:
    """Draws the mean jump over training, and jumpiness against error (figures 3, 5 and 8).

    ``entries`` of the report by model are all of runs that succeeded. On the right, pale dots are
    figures on validation sequences, while the run learned; all others are on evaluation sequences.
    The legend says so.
    """
    title = f"{TASKS[task].title}: jumps and error"
    with _figure(path, (10.4, 4.2), title, quick) as figure:
        left, right = figure.subplots(1, 2)
        for name, entry in entries.items():
            history = [point for point in entry["history"] if point["mse"] < _HUGE]
            steps, jumps = ([point[key] for point in history] for key in ("step", "mean_jump"))
            left.plot(steps, jumps, color=_color(name), linewidth=1.6, label=name)
            _draw_progress(right, name, jumps, [point["mse"] for point in history], entry)
        for name, figures in table.PAPERS.get(task, {}).items():
            look = {"marker": "*", "markersize": 12, "markerfacecolor": "white"}
            look |= {"linestyle": "none", "markeredgecolor": _color(name)}
            place = [figures["mean_jump"]], [figures["sample_mse"]]
            right.plot(*place, label=f"papers' {name}", **look)
        left.set(xlabel="training step", ylabel="mean jump, frames")
        left.locator_params(axis="x", nbins=5)
        right.set(xlabel="mean jump, frames", ylabel="sample MSE", yscale="log")
        told = ("on validation sequences", "further right and down is better")
        for axes, text in zip((left, right), told, strict=True):
            axes.set_title(text, loc="left", fontsize=10, color=style.FAINT)
            style.tidy(axes)
        handles, labels = right.get_legend_handles_labels()
        if handles:
            beside: Any = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "alignment": "left"}
            size: Any = {"fontsize": 9, "title_fontsize": 9}
            right.legend(handles, labels, frameon=False, title=_DOTS, **beside, **size)


def _draw_progress(
    axes: Axes, name: str, jumps: list[float], errors: list[float], entry: Found
) -> None:
    """Validation figures of a run from light to dark, and its final figures as a large mark."""
    from matplotlib.colors import to_rgb

    color, test = _color(name), entry["test"]
    shades = [(*to_rgb(color), alpha) for alpha in np.linspace(0.15, 0.7, len(jumps))]
    axes.scatter(jumps, errors, s=14, c=shades, linewidths=0)
    if test["sample_mse"] is not None:
        half = [1.96 * test["sample_se"]] if test["sample_se"] else None
        look: Any = {"fmt": "o", "markersize": 8, "markeredgecolor": "white", "zorder": 3}
        place = [test["mean_jump"]], [test["sample_mse"]]
        axes.errorbar(*place, yerr=half, color=color, label=name, **look)
    forced = [point for point in entry["forced_jumps"] if point["sample_mse"] is not None]
    if forced:
        curve = ([point[key] for point in forced] for key in ("mean_jump", "sample_mse"))
        look = {"color": _FORCED, "marker": ".", "linewidth": 1.4, "zorder": 1}
        axes.plot(*curve, label=f"{name}, constant jumps", **look)


def save_capacity_figure(models: Mapping[str, Found], path: Path, quick: bool = False) -> None:
    """Draws mean jump and error of jumpy models of several hidden sizes (figure 4).

    ``models`` holds entries by model and hidden size, of which failed ones are left out. The legend
    tells how many steps they made.
    """
    with _figure(path, (9.2, 4.0), "Circles: capacity and jumpiness", quick) as figure:
        left, right = figure.subplots(1, 2)
        sizes: set[int] = set()
        for name, entries in models.items():
            scored = _scored(entries)
            if scored:
                steps = span(entry["steps"] for entry in scored.values())
                look: Any = {"color": _color(name), "marker": "o"}
                look["label"] = f"{name}, {steps} steps"
                tests = [entry["test"] for entry in scored.values()]
                left.plot([*scored], [test["mean_jump"] for test in tests], **look)
                right.plot([*scored], [test["sample_mse"] for test in tests], **look)
                sizes.update(scored)
        left.set_ylabel("mean jump, frames")
        right.set(ylabel="sample MSE", yscale="log")
        for axes in (left, right):
            axes.set_xlabel("hidden size")
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
            style.tidy(axes)
        left.legend(frameon=False, fontsize=9)


def _scored(entries: Found) -> dict[int, Any]:
    """The entries with an error to draw, by ascending hidden size."""
    scored = {
        int(size): run
        for size, run in entries.items()
        if run["error"] is None and run["test"]["sample_mse"] is not None
    }
    return dict(sorted(scored.items()))


# -- common --------------------------------------------------------------------------------------


def _by_best_settings(found: Found, networks: Iterable[str]) -> list[str]:
    """Of each network the model with the last of `SETTINGS` that is found."""
    best = {network: network + s for network in networks for s in SETTINGS if network + s in found}
    return list(best.values())


def _array(values: Any) -> NDArray[np.float64]:
    """Nested lists, in which None is what was not finite."""
    return np.array(values, dtype=np.float64)


def _color(name: str) -> str:
    return _COLORS.get(network_of(name)[0], style.INK)

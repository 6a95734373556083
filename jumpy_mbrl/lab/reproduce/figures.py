"""The pictures of the papers' tasks: samples with their ticks, jumps over training, capacity.

All are drawn from results alone (`table1.json`, `samples.json` and `capacity.json`; see
`jumpy_mbrl.lab.reproduce.results`). Needs matplotlib (the ``viz`` extra), imported only when
something is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.lab.reproduce.table import PAPERS, in_order, succeeded
from jumpy_mbrl.lab.style import FAINT, INK, PALE, check_matplotlib, new_figure, tidy
from jumpy_mbrl.training.presets import NETWORKS, SETTINGS, network_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("rnn", "jumpy-rnn", "ours")
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
}
_FORCED = "#a3adb3"
_SIDE = 28
_HUGE = 1e30
"""Training writes errors that were not finite as the largest number; those are not drawn."""

_DOTS = "pale dots: validation sequences;\nall else: evaluation sequences"
_QUICK = "quick run: the figures mean nothing"


def save_task_figures(
    report: Mapping[str, Any],
    samples: Mapping[str, Any],
    capacity: Mapping[str, Any] | None,
    out: str | os.PathLike[str],
) -> list[Path]:
    """Draws all that there are results for, of each network by its best settings and first seed.

    Args:
        report: what table1.json holds.
        samples: what samples.json holds.
        capacity: what capacity.json holds, or None.
        out: folder for the pictures.

    Returns:
        The paths of ``samples-TASK.png`` and ``jumps-TASK.png`` for each task with a run that
        succeeded, and ``capacity.png``.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    check_matplotlib()
    folder, paths = Path(out), list[Path]()
    for task, entries in in_order(report["tasks"]).items():
        good = {name: runs[0] for name in entries if (runs := succeeded(entries[name]))}
        drawn = {name: (samples.get(task) or {}).get(name) for name in good}
        found = {name: content for name, content in drawn.items() if content is not None}
        if found:
            paths.append(folder / f"samples-{task}.png")
            save_samples_figure(task, found, paths[-1], report["quick"])
        if good:
            paths.append(folder / f"jumps-{task}.png")
            shown = {name: good[name] for name in _by_best_settings(good, (*NETWORKS, "ours"))}
            save_jumps_figure(task, shown, paths[-1], report["quick"])
    if capacity is not None and any(map(_scored, capacity["models"].values())):
        paths.append(folder / "capacity.png")
        save_capacity_figure(capacity["models"], paths[-1], capacity["quick"])
    return paths


def save_samples_figure(
    task: str, samples: Mapping[str, Any], path: str | os.PathLike[str], quick: bool = False
) -> None:
    """Draws sequences of a task as they were and as models imagine them; dots are ticks.

    Args:
        task: its name.
        samples: by model, from ``jumpy_mbrl.lab.reproduce.samples.record_samples``.
        path: of the picture; the suffix says which format.
        quick: say that the figures mean nothing.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    source = TASKS[task].source
    preferred = SHOWN_ON_WEATHER if source == "weather" else SHOWN
    names = _by_best_settings(samples, preferred) or list(samples)
    shown = {name: samples[name] for name in names}
    draw: Mapping[str, Callable[[Figure, str, Mapping[str, Any]], None]] = {
        "pixels": _draw_films,
        "weather": _draw_weather,
    }
    rows = len(next(iter(shown.values()))["ways"])
    sizes = {
        "pixels": (9.5, 0.9 + 1.15 * (len(shown) + 1)),
        "weather": (4.0 * rows, 5.6),
    }
    size = sizes.get(source, (3.4 * max(len(shown), 2) + 0.6, 3.2 * rows + 0.7))
    with _figure(path, size) as figure:
        draw.get(source, _draw_ways)(figure, task, shown)
        _title(figure, f"{TASKS[task].title}: samples", quick)
        truth = "" if source == "pixels" else "grey: what happened; "
        key = f"{truth}black: frames shown; coloured dots: ticks"
        figure.supxlabel(key, fontsize=9, color=FAINT)


def save_jumps_figure(
    task: str,
    entries: Mapping[str, Any],
    path: str | os.PathLike[str],
    quick: bool = False,
) -> None:
    """Draws the mean jump over training, and jumpiness against error (figures 3, 5 and 8).

    On the right, pale dots are figures on validation sequences, while the run learned; all others
    are on evaluation sequences. The legend says so.

    Args:
        task: its name.
        entries: of the report, by model; all of runs that succeeded.
        path: of the picture; the suffix says which format.
        quick: say that the figures mean nothing.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    with _figure(path, (10.4, 4.2)) as figure:
        left, right = figure.subplots(1, 2)
        for name, entry in entries.items():
            history = [point for point in entry["history"] if point["mse"] < _HUGE]
            steps = [point["step"] for point in history]
            jumps = [point["mean_jump"] for point in history]
            left.plot(steps, jumps, color=_color(name), linewidth=1.6, label=name)
            _draw_progress(right, name, jumps, [point["mse"] for point in history], entry)
        _draw_references(right, task)
        left.set(xlabel="training step", ylabel="mean jump, frames")
        left.locator_params(axis="x", nbins=5)
        left.set_title("on validation sequences", loc="left", fontsize=10, color=FAINT)
        right.set(xlabel="mean jump, frames", ylabel="sample MSE", yscale="log")
        right.set_title("further right and down is better", loc="left", fontsize=10, color=FAINT)
        for axes in (left, right):
            tidy(axes)
        handles, labels = right.get_legend_handles_labels()
        if handles:
            right.legend(
                handles,
                labels,
                loc="center left",
                bbox_to_anchor=(1.01, 0.5),
                frameon=False,
                fontsize=9,
                title=_DOTS,
                title_fontsize=9,
                alignment="left",
            )
        _title(figure, f"{TASKS[task].title}: jumps and error", quick)


def save_capacity_figure(
    models: Mapping[str, Mapping[str, Any]], path: str | os.PathLike[str], quick: bool = False
) -> None:
    """Draws mean jump and error of jumpy models of several hidden sizes (figure 4).

    Args:
        models: entries of the report, by model and hidden size; failed ones are left out. The
            legend tells their budgets.
        path: of the picture; the suffix says which format.
        quick: say that the figures mean nothing.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    with _figure(path, (9.2, 4.0)) as figure:
        left, right = figure.subplots(1, 2)
        sizes: set[int] = set()
        for name, entries in models.items():
            scored = {int(size): entry for size, entry in _scored(entries).items()}
            if not scored:
                continue
            hidden = sorted(scored)
            tests = [scored[size]["test"] for size in hidden]
            sizes.update(hidden)
            label = f"{name}, {_budget(scored.values())}"
            look = {"color": _color(name), "marker": "o", "label": label}
            left.plot(hidden, [test["mean_jump"] for test in tests], **look)
            right.plot(hidden, [test["sample_mse"] for test in tests], **look)
        left.set_ylabel("mean jump, frames")
        right.set(ylabel="sample MSE", yscale="log")
        for axes in (left, right):
            axes.set_xlabel("hidden size")
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
            tidy(axes)
        left.legend(frameon=False, fontsize=9)
        _title(figure, "Circles: capacity and jumpiness", quick)


# -- samples -------------------------------------------------------------------------------------


def _draw_ways(figure: Figure, task: str, samples: Mapping[str, Any]) -> None:
    """One column for each model, one row for each sequence."""
    rows = len(next(iter(samples.values()))["ways"])
    grid = figure.subplots(rows, len(samples), squeeze=False)
    over_time = task == "billiards1d"
    for column, (name, sample) in enumerate(samples.items()):
        for row, way in enumerate(sample["ways"]):
            axes: Axes = grid[row, column]
            truth = _array(sample["truth"][row])
            shown = TASKS[task].warm_up
            if over_time:
                _draw_over_time(axes, name, truth, way, shown)
            else:
                _draw_paths(axes, task, name, truth, way, shown)
            if row == 0:
                axes.set_title(name, loc="left", color=_color(name), weight="bold")


def _draw_over_time(
    axes: Axes, name: str, truth: NDArray[np.float64], way: Mapping[str, Any], shown: int
) -> None:
    obs, ticks = _array(way["obs"]), _array(way["tick_obs"])
    frames = np.arange(len(truth))
    for place in range(truth.shape[1]):
        axes.plot(frames, truth[:, place], color=PALE, linewidth=4.0, solid_capstyle="round")
        axes.plot(_array(way["time"]), obs[:, place], color=_color(name), linewidth=1.2)
        if len(ticks):
            axes.plot(way["tick_times"], ticks[:, place], "o", color=_color(name), markersize=4)
        axes.plot(frames[:shown], truth[:shown, place], "o", color="black", markersize=3)
    _limit(axes.set_ylim, truth)
    axes.set_xlabel("frame")
    tidy(axes)


def _draw_paths(
    axes: Axes,
    task: str,
    name: str,
    truth: NDArray[np.float64],
    way: Mapping[str, Any],
    shown: int,
) -> None:
    """Ways in the plane, from light to dark as time goes by."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    obs, ticks = _array(way["obs"]), _array(way["tick_obs"])
    for place in range(0, truth.shape[1], 2):
        x_y = slice(place, place + 2)
        axes.plot(*truth[:, x_y].T, color=PALE, linewidth=4.0, solid_capstyle="round")
        fading = LinearSegmentedColormap.from_list("fading", ["#ffffff", _color(name)])
        pieces = np.stack([obs[:-1, x_y], obs[1:, x_y]], axis=1)
        whole = np.isfinite(pieces).all(axis=(1, 2))
        shades = fading(np.linspace(0.35, 1.0, len(pieces)))[whole]
        if whole.any():
            axes.add_collection(LineCollection(list(pieces[whole]), colors=shades, linewidths=1.6))
        if len(ticks):
            axes.plot(*ticks[:, x_y].T, "o", color=_color(name), markersize=4)
        axes.plot(*truth[:shown, x_y].T, "o", color="black", markersize=3)
    if TASKS[task].source == "table":
        axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    elif task == "lines":
        axes.set(xlim=(-0.1, 2.1), ylim=(0.0, 1.0))
    else:
        axes.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))
    axes.set_aspect("auto" if task == "lines" else "equal")
    tidy(axes)


def _draw_films(figure: Figure, task: str, samples: Mapping[str, Any]) -> None:
    """The truth and each model as a strip of pictures, its ticks on a line below."""
    grid = figure.subplots(len(samples) + 1, 1, squeeze=False, sharex=True)[:, 0]
    first = next(iter(samples.values()))
    _draw_film(grid[0], "truth", first["truth"][0], first["film"], None, task)
    for axes, (name, sample) in zip(grid[1:], samples.items(), strict=True):
        way = sample["ways"][0]
        _draw_film(axes, name, way["obs"], sample["film"], way["tick_times"], task)
    grid[-1].set_xlabel("frame")


def _draw_film(
    axes: Axes,
    name: str,
    pictures: list[str],
    film: list[float],
    tick_times: list[float] | None,
    task: str,
) -> None:
    half = 0.46 * (film[1] - film[0])
    for frame, text in zip(film, pictures, strict=True):
        picture = np.frombuffer(bytes.fromhex(text), dtype=np.uint8).reshape(_SIDE, _SIDE)
        place = (frame - half, frame + half, 0.0, 1.0)
        axes.imshow(picture, extent=place, cmap="gray", vmin=0, vmax=255, aspect="auto")
    if tick_times is not None:
        axes.plot(tick_times, [-0.14] * len(tick_times), "o", color=_color(name), markersize=3.6)
    shown = TASKS[task].warm_up
    axes.plot(range(shown), [-0.14] * shown, "o", color="black", markersize=3)
    axes.set(xlim=(-1.0, film[-1] + half + 0.5), ylim=(-0.28, 1.04), yticks=[])
    axes.set_ylabel(name, rotation=0, ha="right", va="center", color=_color(name))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_weather(figure: Figure, task: str, samples: Mapping[str, Any]) -> None:
    """Temperature and pressure over time; the frames before the vertical line are shown."""
    rows = len(next(iter(samples.values()))["ways"])
    grid = figure.subplots(2, rows, squeeze=False)
    shown = TASKS[task].warm_up
    for feature, label in enumerate(("temperature, °C", "pressure, mbar")):
        for column in range(rows):
            axes: Axes = grid[feature, column]
            truth = _array(next(iter(samples.values()))["truth"][column])[:, feature]
            axes.plot(truth, color=PALE, linewidth=4.0, label="truth")
            for name, sample in samples.items():
                way = sample["ways"][column]
                style: Any = {"color": _color(name)}
                obs, ticks = _array(way["obs"]), _array(way["tick_obs"])
                axes.plot(way["time"], obs[:, feature], linewidth=1.2, label=name, **style)
                if len(ticks):
                    axes.plot(way["tick_times"], ticks[:, feature], "o", markersize=3, **style)
            axes.plot(range(shown), truth[:shown], "o", color="black", markersize=2.5)
            axes.axvline(shown - 1, color=FAINT, linewidth=1.0)
            _limit(axes.set_ylim, truth)
            if column == 0:
                axes.set_ylabel(label)
            if feature == 1:
                axes.set_xlabel("step of 30 minutes")
            tidy(axes)
    grid[0, 0].legend(frameon=False, fontsize=8)


# -- jumps ---------------------------------------------------------------------------------------


def _draw_progress(
    axes: Axes, name: str, jumps: list[float], errors: list[float], entry: Mapping[str, Any]
) -> None:
    """Validation figures of a run from light to dark, and its final figures as a large mark."""
    from matplotlib.colors import to_rgb

    shades = [(*to_rgb(_color(name)), alpha) for alpha in np.linspace(0.15, 0.7, len(jumps))]
    axes.scatter(jumps, errors, s=14, c=shades, linewidths=0)
    test = entry["test"]
    if test["sample_mse"] is not None:
        axes.errorbar(
            [test["mean_jump"]],
            [test["sample_mse"]],
            yerr=None if not test["sample_se"] else [1.96 * test["sample_se"]],
            fmt="o",
            color=_color(name),
            markersize=8,
            markeredgecolor="white",
            label=name,
            zorder=3,
        )
    forced = [point for point in entry["forced_jumps"] if point["sample_mse"] is not None]
    if forced:
        axes.plot(
            [point["mean_jump"] for point in forced],
            [point["sample_mse"] for point in forced],
            color=_FORCED,
            marker=".",
            linewidth=1.4,
            label=f"{name}, constant jumps",
            zorder=1,
        )


def _draw_references(axes: Axes, task: str) -> None:
    for name, figures in PAPERS.get(task, {}).items():
        axes.plot(
            [figures["mean_jump"]],
            [figures["sample_mse"]],
            linestyle="none",
            marker="*",
            markersize=12,
            markerfacecolor="white",
            markeredgecolor=_color(name),
            label=f"papers' {name}",
        )


def _budget(entries: Iterable[Mapping[str, Any]]) -> str:
    """The steps that runs made, as "1,000 steps", or from the fewest to the most."""
    steps = sorted({entry["steps"] for entry in entries})
    return " to ".join(f"{count:,}" for count in steps[:: max(len(steps) - 1, 1)]) + " steps"


def _by_best_settings(found: Mapping[str, Any], networks: Iterable[str]) -> list[str]:
    """Of each network the model with the last of `SETTINGS` that is found."""
    by_settings = [
        [name for settings in SETTINGS if (name := network + settings) in found]
        for network in networks
    ]
    return [names[-1] for names in by_settings if names]


def _scored(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries with an error to draw."""
    return {
        name: entry
        for name, entry in entries.items()
        if entry["error"] is None and entry["test"]["sample_mse"] is not None
    }


# -- common --------------------------------------------------------------------------------------


def _figure(
    path: str | os.PathLike[str], size: tuple[float, float]
) -> AbstractContextManager[Figure]:
    return new_figure(path, size, layout="constrained", font_size=10.0, dpi=110)


def _title(figure: Figure, text: str, quick: bool) -> None:
    figure.suptitle(
        f"{text} ({_QUICK})" if quick else text, x=0.01, ha="left", fontsize=13, weight="bold"
    )


def _limit(set_limits: Callable[[float, float], object], truth: NDArray[np.float64]) -> None:
    """Keeps what really happened in view, however far a model strays."""
    low, high = float(truth.min()), float(truth.max())
    margin = 0.25 * (high - low) + 1e-3
    set_limits(low - margin, high + margin)


def _array(values: Any) -> NDArray[np.float64]:
    """Nested lists, in which None is what was not finite."""
    return np.array(values, dtype=np.float64)


def _color(name: str) -> str:
    return _COLORS.get(network_of(name)[0], INK)

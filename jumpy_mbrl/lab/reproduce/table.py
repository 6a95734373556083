"""Table 1 of the papers beside ours, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.evaluation.sequences import ONE_STEP_FRAMES
from jumpy_mbrl.lab.store import markdown, span
from jumpy_mbrl.training.presets import NETWORKS, SETTINGS, TASK_MODELS

Found = Mapping[str, Any]
Tasks = Mapping[str, Mapping[str, Any]]

DEFINITIONS = {
    "seeds": "of training. Where there are several, errors and jumps are means over them, followed "
    "by the lowest and the highest",
    "test MSE": "mean squared error of one frame predicted from all real frames before it, at "
    f"{ONE_STEP_FRAMES} moments of each sequence after those shown, on evaluation sequences. The "
    "papers' jumpy figures are instead along lines of the largest accurate jumps.",
    "sample MSE": "of all frames after those shown, imagined in one go with the jumps that the "
    "model predicts, on evaluation sequences, which nothing was chosen by; ± one standard error "
    "over sequences",
    "all-frames MSE": "the same over all frames: those shown, which a model is handed, count as no "
    "error. The papers do not say which of the two theirs are, so they stand in both columns",
    "mean": "sample MSE of imagining the mean of the training sequences, whatever is shown. Where "
    "the papers' figures are above it, their data were scaled differently",
    "of mean": "sample MSE over that of the mean of the training sequences",
    "mean jump": "predicted frames per line, in the same rollouts; each tick begins a line, and "
    "one that is filtered from the frames shown counts too",
    "samples seen": "steps of training times the size of a batch: sequences, or windows of them; "
    "of models of events so many of each kind",
    "frames of data": "that were trained on, each counted once",
    "training": "seconds with data and checkpoints, in older runs validation too; - if unknown",
    "built in": "what a model knows before it learns: - if nothing, else its kind, told of below",
}
QUICK_WARNING = (
    "Quick run: the budgets are a tiny part of the real ones; the figures mean nothing. They only "
    "show that the whole path works."
)
_MADE_UP = (
    "`synthetic-weather` is made up, not measured: it stands in where the file of the real weather "
    "is missing, and the papers have no figures for it."
)


def _papers(scale: float, **models: tuple[float, float, float, float]) -> dict[str, Any]:
    """Train, test and sample MSE, to be multiplied by ``scale``, and mean jump."""
    names, found = ("train_mse", "test_mse", "sample_mse"), {}
    for model, (*errors, jump) in models.items():
        scaled = [float(f"{scale * error:.3g}") for error in errors]
        found[model.replace("_", "-")] = dict(zip(names, scaled, strict=True), mean_jump=jump)
    return found


PAPERS: dict[str, dict[str, dict[str, float]]] = {
    "lines": _papers(1e-8, rnn=(1.68, 1.77, 13.9, 1), jumpy_rnn=(39.9, 44.2, 21.9, 20)),
    "circles": _papers(1e-4, rnn=(0.03, 0.03, 3.98, 1), jumpy_rnn=(3.66, 3.64, 5.25, 17)),
    "billiards1d": _papers(1e-5, rnn=(2.40, 2.44, 1.77, 1), jumpy_rnn=(2.86, 2.93, 4.37, 5.1)),
    "billiards2d": _papers(1e-5, rnn=(2.66, 3.09, 2100, 1), jumpy_rnn=(3.55, 3.73, 1760, 4.5)),
    "pixel-billiards1d": _papers(
        1e-4, rnn=(1.26, 1.56, 2.37, 1), jumpy_rnn=(1.49, 1.74, 2.64, 4.1)
    ),
    "pixel-billiards2d": _papers(
        1e-3, rnn=(1.31, 2.08, 64.5, 1), jumpy_rnn=(3.00, 3.90, 37.1, 3.2)
    ),
    "weather": _papers(
        1e-3,
        rnn=(1.53, 1.29, 21.2, 1),
        jump_2=(1.61, 1.43, 13.8, 2),
        jumpy_rnn=(1.64, 1.24, 10.8, 2.22),
    ),
}
"""The papers' table 1 by task and model. On made-up weather they have no figures."""

_COLUMNS = (
    *("task", "model", "seeds", "test MSE", "sample MSE", "all-frames MSE", "of mean"),
    *("mean jump", "weights", "samples seen", "frames of data", "training, s", "built in"),
)
_SUMMARY = (*(f"{network}-tuned" for network in NETWORKS), "ours")


def format_report(report: Found) -> str:
    """The report as Markdown: sample errors side by side, then everything."""
    tasks = in_order(report["tasks"])
    known = {
        f"built into the {run['config']['model']['name']}": "; ".join(run["built_in"])
        for models in tasks.values()
        for entries in models.values()
        for run in succeeded(entries)
        if run["built_in"]
    }
    told = {**DEFINITIONS, **known}
    lines = [
        *("# The papers' table 1, measured again", ""),
        *([f"**{QUICK_WARNING}**", ""] if report["quick"] else []),
        *("Sample MSE, and in brackets the mean jump:", "", *summary(tasks)),
        *("", "What the settings are worth:", "", *settings_summary(tasks)),
        *("", "All figures; the papers' stand in italics above ours:", ""),
        *markdown(_COLUMNS, _full_rows(tasks), names=2),
        *("", *(f"* **{name}**: {text.rstrip('.')}." for name, text in told.items()), ""),
    ]
    return "\n".join(lines)


def in_order(tasks: Tasks) -> dict[str, dict[str, dict[str, Any]]]:
    """Tasks and models in the order of the papers' table, and seeds, which JSON may have lost."""
    return {
        task: {
            model: {seed: tasks[task][model][seed] for seed in sorted(tasks[task][model], key=int)}
            for model in TASK_MODELS
            if model in tasks[task]
        }
        for task in TASKS
        if task in tasks
    }


def succeeded(entries: Found) -> list[Any]:
    """Of a model's entries by seed those of runs that did not fail, the first seed's first."""
    found = [entries[seed] for seed in sorted(entries, key=int)]
    return [entry for entry in found if entry["error"] is None]


def summary(tasks: Tasks) -> list[str]:
    """Lines of Markdown: sample MSE, and in brackets mean jump, a row a task.

    The networks are those with tuned settings, and ours beside them. Of pictures, sample MSE over
    that of the mean stands in square brackets. A line below tells what is made up.
    """
    found = in_order(tasks)
    models = [name for name in _SUMMARY if any(name in entries for entries in found.values())]
    rows = []
    for task, entries in found.items():
        papers = PAPERS.get(task, {})
        good = [run for runs in entries.values() for run in succeeded(runs)]
        seeds = [len(succeeded(entries[name])) for name in models if name in entries]
        row = [task, *(_papers_figures(papers.get(name)) for name in ("rnn", "jumpy-rnn"))]
        row += [_number(good[0]["mean_sequence_mse"]) if good else "-"]
        row += [_brief(task, entries.get(name)) for name in models]
        rows.append([*row, span(seeds) if seeds else "-"])
    header = ("task", "papers' RNN", "papers' jumpy RNN", "mean", *models, "seeds")
    lines = markdown(header, rows, names=1)
    return [*lines, "", _MADE_UP] if "synthetic-weather" in found else lines


def settings_summary(tasks: Tasks) -> list[str]:
    """Lines of Markdown: the RNN and the jumpy RNN by each of `SETTINGS`, as in `summary`.

    Tasks whose networks have tuned settings alone are left out.
    """
    rows = []
    for task, entries in in_order(tasks).items():
        for network in ("rnn", "jumpy-rnn"):
            if any(network + settings in entries for settings in SETTINGS[:-1]):
                papers = _papers_figures(PAPERS.get(task, {}).get(network))
                cells = (_brief(task, entries.get(network + settings)) for settings in SETTINGS)
                rows.append([task, network, papers, *cells])
    header = ("task", "network", "papers'", "printed equations", "2020", "2021", "tuned")
    return markdown(header, rows, names=2) if rows else ["Nothing of this has been run yet."]


def _full_rows(tasks: Tasks) -> Iterator[list[str]]:
    for task, models in tasks.items():
        for name, figures in PAPERS.get(task, {}).items():
            test, sample = (f"*{_number(figures[key])}*" for key in ("test_mse", "sample_mse"))
            jump = f"*{figures['mean_jump']:g}*"
            yield _filled(task, f"*papers' {name}*", "", test, sample, sample, "", jump)
        for name, entries in models.items():
            good = succeeded(entries)
            if good:
                yield [task, name, *_full_cells(good)]
            for seed, entry in entries.items():
                if entry["error"] is not None:
                    text = " ".join(entry["error"].split()).replace("|", "\\|")
                    yield _filled(task, name, f"failed: seed {seed}: {text}")


def _filled(*cells: str) -> list[str]:
    return [*cells, *[""] * (len(_COLUMNS) - len(cells))]


def _full_cells(runs: Sequence[Found]) -> Iterator[str]:
    """What stands in a row after task and model."""
    first, errors = runs[0], _test(runs, "sample_mse")
    yield str(len(runs))
    yield _spread(_test(runs, "one_step_mse"))
    alone = len(runs) == 1 and first["test"]["sample_se"] is not None
    yield _spread(errors) + (f" ± {first['test']['sample_se']:.1e}" if alone else "")
    yield _spread(_test(runs, "all_frames_mse"))
    yield _spread(_of_mean(runs), ".3g")
    yield _spread(_test(runs, "mean_jump"), ".3g")
    yield f"{first['weights']:,}"
    precision = first["config"].get("precision", "float32")  # Older runs had no other.
    seen = span(run["steps"] * run["config"]["batch_size"] for run in runs)
    yield seen if precision == "float32" else f"{seen} in {precision}"
    yield f"{first['training_frames']:,}"
    seconds = [run["training_seconds"] for run in runs]
    yield "-" if None in seconds else f"{_mean(seconds):,.0f}"
    yield first["config"]["model"]["name"] if first["built_in"] else "-"


def _papers_figures(figures: Mapping[str, float] | None) -> str:
    return "-" if not figures else f"{_number(figures['sample_mse'])} ({figures['mean_jump']:g})"


def _brief(task: str, entries: Found | None) -> str:
    """Means over seeds: sample MSE, of pictures that over the mean picture's, and mean jump."""
    runs = succeeded(entries or {})
    if not runs:
        return "failed" if entries else "-"
    error = _number(_mean(_test(runs, "sample_mse")))
    if TASKS[task].source == "pixels":
        error += f" [{_number(_mean(_of_mean(runs)), '.3g')}]"
    return f"{error} ({_number(_mean(_test(runs, 'mean_jump')), '.3g')})"


def _test(runs: Sequence[Found], name: str) -> list[float]:
    """A figure on the evaluation sequences of each run, NaN for None, which was not finite."""
    values = [run["test"][name] for run in runs]
    return [math.nan if value is None else float(value) for value in values]


def _of_mean(runs: Sequence[Found]) -> list[float]:
    """Sample MSE over that of the mean sequence."""
    errors = zip(_test(runs, "sample_mse"), runs, strict=True)
    return [error / run["mean_sequence_mse"] for error, run in errors]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float], form: str = ".2e") -> str:
    """The mean and, of several, the lowest and the highest."""
    mean, *ends = (_number(value, form) for value in (_mean(values), min(values), max(values)))
    several = len(values) > 1 and not math.isnan(_mean(values))
    return f"{mean} ({' to '.join(ends)})" if several else mean


def _number(value: float, form: str = ".2e") -> str:
    return "not finite" if math.isnan(value) else f"{value:{form}}"

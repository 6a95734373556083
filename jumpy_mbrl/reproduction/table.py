"""Table 1 of the papers beside ours, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jumpy_mbrl.data.tasks import TASKS
from jumpy_mbrl.evaluation.sequences import ONE_STEP_FRAMES
from jumpy_mbrl.training.presets import TASK_MODELS

DEFINITIONS = {
    "train MSE, test MSE": (
        "mean squared error of one frame predicted from all real frames before it, at "
        f"{ONE_STEP_FRAMES} moments of each sequence after those shown, on training and on "
        "evaluation sequences. The papers' jumpy figures are instead along lines of the largest "
        "accurate jumps."
    ),
    "sample MSE": (
        "of all frames after those shown, imagined in one go with the jumps that the model "
        "predicts, on evaluation sequences, which nothing was chosen by; ± one standard error"
    ),
    "mean": (
        "sample MSE of imagining the mean of the training sequences, whatever is shown. Where the "
        "papers' figures are above it, their data were scaled differently"
    ),
    "mean jump": "predicted frames per line, in the same rollouts; each tick begins a line, and "
    "one that is filtered from the frames shown counts too",
    "training": "seconds with data and checkpoints, in older runs validation too; - if unknown",
}


def _papers(scale: float, **models: tuple[float, float, float, float]) -> dict[str, Any]:
    """Train, test and sample MSE, to be multiplied by ``scale``, and mean jump."""
    names = ("train_mse", "test_mse", "sample_mse")
    return {
        model.replace("_", "-"): {
            **{
                name: float(f"{scale * value:.3g}") for name, value in zip(names, row, strict=False)
            },
            "mean_jump": row[3],
        }
        for model, row in models.items()
    }


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

_MADE_UP = (
    "`synthetic-weather` is made up, not measured: it stands in where the file of the real weather "
    "is missing, and the papers have no figures for it."
)

QUICK_WARNING = (
    "Quick run: the budgets are a tiny part of the real ones; the figures mean nothing. They only "
    "show that the whole path works."
)

_COLUMNS = (
    "task",
    "model",
    "train MSE",
    "test MSE",
    "sample MSE",
    "mean jump",
    "weights",
    "steps",
    "training, s",
    "frames of data",
)


def format_report(report: Mapping[str, Any]) -> str:
    """The report as Markdown: sample errors side by side, then everything."""
    lines = ["# The papers' table 1, measured again", ""]
    if report["quick"]:
        lines += [f"**{QUICK_WARNING}**", ""]
    lines += ["Sample MSE, and in brackets the mean jump:", ""]
    lines += summary(report["tasks"])
    lines += ["", "All figures; the papers' stand in italics above ours:", ""]
    lines += _markdown(_COLUMNS, _full_rows(report["tasks"]), names=2)
    lines += ["", *(f"* **{name}**: {text}." for name, text in _definitions()), ""]
    return "\n".join(lines)


def in_order(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tasks and models in the order of the papers' table, which JSON may have lost."""
    return {
        task: {model: tasks[task][model] for model in TASK_MODELS if model in tasks[task]}
        for task in TASKS
        if task in tasks
    }


def _definitions() -> list[tuple[str, str]]:
    return [(name, text.rstrip(".")) for name, text in DEFINITIONS.items()]


def summary(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: sample MSE, and in brackets mean jump, a row a task.

    A line below tells what of it is made up.
    """
    found = in_order(tasks)
    models = [name for name in TASK_MODELS if any(name in entries for entries in found.values())]
    rows = []
    for task, entries in found.items():
        papers = PAPERS.get(task, {})
        row = [task]
        row += [_brief(papers.get(name)) for name in ("rnn", "jumpy-rnn")]
        means = [entry["mean_sequence_mse"] for entry in entries.values() if not entry["error"]]
        row.append(_number(means[0]) if means else "-")
        for name in models:
            entry = entries.get(name)
            failed = entry is not None and entry["error"] is not None
            row.append("failed" if failed else _brief(entry and entry["test"]))
        rows.append(row)
    lines = _markdown(("task", "papers' RNN", "papers' jumpy RNN", "mean", *models), rows)
    return [*lines, "", _MADE_UP] if "synthetic-weather" in found else lines


def _full_rows(tasks: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for task, entries in in_order(tasks).items():
        for name, figures in PAPERS.get(task, {}).items():
            errors = [_number(figures[key]) for key in ("train_mse", "test_mse", "sample_mse")]
            cells = [f"papers' {name}", *errors, f"{figures['mean_jump']:g}"]
            rows.append([task, *(f"*{cell}*" for cell in cells), "", "", "", ""])
        rows += [_full_row(task, name, entry) for name, entry in entries.items()]
    return rows


def _full_row(task: str, name: str, entry: Mapping[str, Any]) -> list[str]:
    if entry["error"] is not None:
        text = " ".join(entry["error"].split()).replace("|", "\\|")
        return [task, name, f"failed: {text}", *[""] * (len(_COLUMNS) - 3)]
    train_score, test = entry["train"], entry["test"]
    spread = "" if test["sample_se"] is None else f" ± {_number(test['sample_se'], 1)}"
    seconds = entry["training_seconds"]
    return [
        task,
        name,
        _number(train_score["one_step_mse"]),
        _number(test["one_step_mse"]),
        _number(test["sample_mse"]) + spread,
        _number(test["mean_jump"], plain=True),
        f"{entry['weights']:,}",
        f"{entry['steps']:,}" + _precision(entry["config"]),
        "-" if seconds is None else f"{seconds:,.0f}",
        f"{entry['training_frames']:,}",
    ]


def _precision(config: Mapping[str, Any]) -> str:
    """What is to be said of a run's precision; nothing if it was the usual one."""
    precision = config.get("precision", "float32")  # Older runs had no other.
    return "" if precision == "float32" else f" in {precision}"


def _brief(figures: Mapping[str, Any] | None) -> str:
    if not figures:
        return "-"
    jump = _number(figures["mean_jump"], plain=True)
    return f"{_number(figures['sample_mse'])} ({jump})"


def _number(value: float | None, digits: int = 2, plain: bool = False) -> str:
    """1.23e-04, or 1.23 if ``plain``; None stands for what was not finite."""
    if value is None:
        return "not finite"
    return f"{value:.3g}" if plain else f"{value:.{digits}e}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> list[str]:
    """A table whose first ``names`` columns are text; figures stand on the right."""
    rule = [*["---"] * names, *["---:"] * (len(header) - names)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]

"""A page in the browser: set up a table, shoot or let an agent plan, and see what models imagine.

    python scripts/demo.py

Drag the balls, the tips of their arrows (how they roll) and the target. The white arrow is your
shot. What an agent imagined is dotted, with a larger dot where its model ticked, over what really
happens; below it is the film of the same shot in the simulator, an RNN and a jumpy model.

The page needs Gradio (the extra "demo") and is served to this machine alone, unless --host says
otherwise. Positions are in table sides, speeds in sides per time unit.
"""

from __future__ import annotations

import base64
import functools
import importlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from jumpy_mbrl.agents import AGENTS, PROTOCOLS, Agent, load_agent
from jumpy_mbrl.agents.planning.trace import PlanTrace, ShotRecord, trace_plan
from jumpy_mbrl.checks import check_choice, check_number
from jumpy_mbrl.data.seeds import EVALUATION_SEEDS_FROM
from jumpy_mbrl.envs import starts
from jumpy_mbrl.envs.billiards import Billiards2DShotEnv, read_action
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.envs.physics import advance
from jumpy_mbrl.lab.films import Doubles, film_panels
from jumpy_mbrl.lab.rollouts import Shot, imagined_rollout, real_rollout
from jumpy_mbrl.models import WorldModel, from_pretrained
from jumpy_mbrl.play.game import Score

Table = dict[str, Any]
"""What the browser holds: "balls", rows of x, y, vx and vy as they are when the cue strikes, the
cue ball first; the "shot", two numbers in [-1, 1]; and the "target", x_low, x_high, y_low, y_high.
After a shot also "show", what there is to see of it."""

YOU, BEST = "you", "jumpy"
PLAYERS = tuple(name for name in reversed(AGENTS) if name not in ("none", "random"))
"""Agents to choose from, the best first."""
FILMED = {"rnn": "rnn-billiards2d", "jumpy": "fold-billiards2d"}
"""The models of the film."""
LINES = ("cue ball", "object ball", "shot", "target")
_PER_FRAME = 4  # points of a way
_FIRST = 49  # seed of the table that a visitor sees first


def deal(rng: np.random.Generator) -> Table:
    """A table as `Billiards2D-v0` deals them for training, and a shot at the object ball."""
    _, info = Billiards2DShotEnv().reset(seed=int(rng.integers(EVALUATION_SEEDS_FROM)))
    x, v = info["positions"], info["velocities"]
    way = x[1] - x[0]
    shot = np.round(0.7 * way / np.abs(way).max(), 3).tolist()
    balls = np.concatenate([x, v], axis=1).tolist()
    return {"balls": balls, "shot": shot, "target": list(TableConfig().target)}


def read_text(text: str) -> Table:
    """The table that lines of text describe, as `write_text` writes them.

    `ValueError` for a line that is missing or unknown, or that does not hold numbers.
    """
    rows: dict[str, list[float]] = {}
    for line in filter(str.strip, text.splitlines()):
        name, _, numbers = (part.strip() for part in line.partition(":"))
        check_choice("line", name, LINES)
        try:
            rows[name] = [float(word) for word in numbers.replace(",", " ").split()]
        except ValueError:
            raise ValueError(f"expected numbers after {name!r}, got {numbers!r}") from None
    for name in LINES:
        if name not in rows:
            raise ValueError(f"expected a line {name!r} with its numbers, got none; add it")
    cue, other, shot, target = (rows[name] for name in LINES)
    return {"balls": [cue, other], "shot": shot, "target": target}


def write_text(table: Table) -> str:
    """A table as lines of text; `ValueError` for one that cannot be."""
    read_table(table)
    rows = [*table["balls"], table["shot"], table["target"]]
    words = (" ".join(f"{number:.3f}" for number in row) for row in rows)
    return "\n".join(f"{name}: {numbers}" for name, numbers in zip(LINES, words, strict=True))


def read_table(table: Any) -> tuple[Doubles, Doubles, NDArray[np.float32], TableConfig]:
    """Positions and velocities of N balls, (N, 2), the shot (2,), clipped, and the configuration.

    `ValueError` for what is no table, balls that overlap or lie outside, balls that are too fast,
    what is not finite, or an impossible target.
    """
    try:
        rows = [[float(number) for number in row] for row in table["balls"]]
        action = np.array(read_action([float(number) for number in table["shot"]]), np.float32)
        config = TableConfig(target=tuple(table["target"]))
    except (KeyError, TypeError, OverflowError):
        raise ValueError(
            "expected a table: numbers for balls, the shot and the target, got something else; "
            "deal a new table"
        ) from None
    if [len(row) for row in rows] != [4] * config.num_balls:
        raise ValueError(
            f"expected x, y, vx and vy for each of {config.num_balls} balls, got rows of "
            f"{[len(row) for row in rows][:8]} numbers"
        )
    balls = np.array(rows)
    x = starts.check_positions(balls[:, :2], config)
    return x, starts.check_velocities(balls[:, 2:], config), action, config


def play(table: Any, agent: Agent | None = None) -> tuple[Shot, ShotRecord, float | None]:
    """Plays the shot of a table, or the one that an agent chooses in so many seconds.

    The balls are rolled back to where they were at the first frame: agents and models are shown how
    they came. Where the agent has no model, or there is none, `BEST` imagines the shot.
    `ValueError` is that of `read_table`, or says why the agent cannot play.
    """
    positions, velocities, action, config = read_table(table)
    x, v = positions.ravel().tolist(), (-velocities).ravel().tolist()
    advance(x, v, config.lead_in * config.dt, config.radius)
    env = Billiards2DShotEnv(config=config)
    begin = {"positions": np.reshape(x, (-1, 2)), "velocities": -np.reshape(v, (-1, 2))}
    obs, info = env.reset(options=begin)
    frames, now = obs.reshape(config.context_frames, -1), (info["positions"], info["velocities"])
    shot, trace, seconds = Shot(frames, action, *now, config), None, None
    if agent is not None:
        began = time.perf_counter()
        trace = trace_plan(agent, frames, *now, config)
        seconds = time.perf_counter() - began
        shot = replace(shot, action=trace.action)
    info = env.step(shot.action)[-1]
    times = shot.now + np.arange(int(info["frames_played"]) * _PER_FRAME + 1) / _PER_FRAME
    real, won = real_rollout(shot, times).way, bool(info["is_success"])
    if trace is None or not len(trace.imagined):
        best = imagined_rollout(_filmed()[BEST], shot, times)
        trace = PlanTrace(shot.action, best.way, best.marks, None)
    return shot, ShotRecord(**vars(trace), real=real, is_success=won, config=config), seconds


def shown(table: Table, record: ShotRecord) -> Table:
    """The table with the shot that was played, and the ways of the balls for the browser."""
    ways = {"real": record.real, "imagined": record.imagined, "ticks": record.ticks}
    show = {name: np.round(way.swapaxes(0, 1), 4).tolist() for name, way in ways.items()}
    shot = np.round(record.action.astype(float), 3).tolist()
    return {**table, "shot": shot, "show": {**show, "won": record.is_success}}


def verdict(who: str, record: ShotRecord, seconds: float | None = None) -> str:
    """What to tell of a shot, in Markdown."""
    frames, ticks = (len(record.real) - 1) // _PER_FRAME, len(record.ticks)
    told = f"### {'In!' if record.is_success else 'Missed'}\n\n`{who}`: {frames} frames, "
    told += f"imagined in **{ticks} tick{'s' * (ticks != 1)}**"
    if seconds is not None:
        told += f", planned in **{1000 * seconds:.0f} ms**"
    if record.belief is not None:
        told += f", {100 * record.belief:.0f} % sure"
    return told


def scored(scores: Mapping[str, Score], who: str, won: bool) -> dict[str, Score]:
    """The scores with one more shot."""
    score = scores.get(who, Score())
    return {**scores, who: Score(score.won + won, score.played + 1)}


def tell(scores: Mapping[str, Score]) -> str:
    """The scores, in Markdown."""
    won = " · ".join(f"`{who}` {score}" for who, score in scores.items())
    return f"Won so far: {won or 'nobody has shot yet'}"


def film(shot: Shot) -> str:
    """HTML with the film of a shot: the simulator, and models that imagine it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.gif"
        film_panels(_filmed(), shot, size=260).save(path)
        data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/gif;base64,{data}"
    return f'<div class="wide"><img class="film" alt="The shot, side by side" src="{source}"></div>'


@functools.cache
def _filmed() -> dict[str, WorldModel]:
    return {name: from_pretrained(source, device="cpu") for name, source in FILMED.items()}


@functools.cache
def _agent(name: str) -> Agent:
    config = replace(PROTOCOLS["default"], threads=1)  # visitors share the cores
    return load_agent(check_choice("agent", name, PLAYERS), config=config)


# -- the page: all above needs no Gradio -----------------------------------------------------------

_NUMBERS = "Balls: x y vx vy. Shot: x y. Target: x from, to; y from, to."
TITLE = "Billiards in imagination"
HELP = """Bring the blue ball into the black target: drag the balls, the target and the tips of the
arrows (the white one is the shot), or let an agent find a shot in its imagination."""
_TABLE = """<svg class="table" role="img" aria-label="The table" viewBox="-6 -6 112 112"></svg>
<p class="legend"><i style="border-top: 3px solid #6ea3f0"></i>what happens
<i style="border-top: 3px dotted #999"></i>what was imagined <b>●</b> tick</p>"""
_EMPTY = """<p class="film">Here comes the film of each shot: the simulator, an RNN and a jumpy
model, side by side.</p>"""
_LOOK = """
.table { display: block; width: 100%; max-height: 84vh; border-radius: 12px; background: #60402a;
  user-select: none; }
.grip { cursor: grab; }
.past { opacity: 0.3; }
.won { stroke: #ffcd60; }
.tick { fill: #fff; stroke: #0008; stroke-width: 0.3; pointer-events: none; }
polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; pointer-events: none; }
.real { stroke-width: 1.1; }
.imagined { stroke: #fff; stroke-width: 0.7; stroke-dasharray: 0.2 1.7; }
.legend { margin-top: 6px; font-size: 0.9em; opacity: 0.75; }
.legend i { display: inline-block; vertical-align: middle; margin: 0 6px; width: 22px; }
"""
_PAGE_LOOK = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.html-container { padding: 0 !important; }
.film { display: block; width: 100%; border-radius: 12px; }
img.film { min-width: 640px; }
.wide { overflow-x: auto; contain: inline-size; }
p.film { padding: 34px 16px; text-align: center; border: 1px dashed #8888; opacity: 0.75; }
"""


def build() -> Any:
    """The page, a `gradio.Blocks`; `ImportError` without Gradio."""
    try:
        gr: Any = importlib.import_module("gradio")
    except ImportError:
        raise ImportError(
            "the page needs Gradio, which is not installed; pip install 'jumpy-mbrl[demo]'"
        ) from None

    def kindly(work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def call(*args: Any) -> Any:
            try:
                return work(*args)
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from None

        return call

    def one_shot(table: Table, scores: Mapping[str, Score], name: str = YOU) -> Any:
        shot, record, seconds = play(table, None if name == YOU else _agent(name))
        after, scores = shown(table, record), scored(scores, name, record.is_success)
        said = verdict(name, record, seconds)
        return after, write_text(after), said, tell(scores), scores, shot

    def anew(text: str | None = None) -> Any:
        table = deal(np.random.default_rng()) if text is None else read_text(text)
        return table, write_text(table)

    first = deal(np.random.default_rng(_FIRST))
    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        scores, shot = gr.State({}), gr.State(None)  # of each visitor
        gr.Markdown(f"# {TITLE}\n{HELP}")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                drawing = gr.HTML(
                    first, html_template=_TABLE, css_template=_LOOK, js_on_load=script
                )
            with gr.Column(scale=2, min_width=300):
                names = [(f"{name}: {AGENTS[name].description}", name) for name in PLAYERS]
                who = gr.Dropdown(names, value=BEST, label="Agent")
                think = gr.Button("Let it plan", variant="primary", size="lg")
                with gr.Row():
                    shoot = gr.Button("Take my shot", min_width=130)
                    new = gr.Button("New table", min_width=130)
                said, won = gr.Markdown(), gr.Markdown(tell({}))
                with gr.Accordion("Numbers", open=False):
                    text = gr.Textbox(write_text(first), lines=4, show_label=False, info=_NUMBERS)
                    use = gr.Button("Use these numbers", size="sm")
        moving = gr.HTML(_EMPTY)
        seen = [drawing, text, said, won, scores, shot]
        for button, inputs in ((think, [drawing, scores, who]), (shoot, [drawing, scores])):
            done = button.click(kindly(one_shot), inputs, seen, concurrency_id="shot")
            done.success(film, shot, moving, concurrency_id="film")
        new.click(anew, None, [drawing, text])
        drawing.release(kindly(write_text), drawing, text, show_progress="hidden")
        use.click(kindly(anew), text, [drawing, text])
    return page


@dataclass(frozen=True)
class Args:
    """Where to serve the page."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 7860
    """Port to listen on."""


def serve(args: Args, **options: Any) -> Any:
    """Serves the page until interrupted, and returns it; `options` are more of `launch`'s.

    `ValueError` for an impossible port, `OSError` for one that is taken, `ImportError` without
    Gradio.
    """
    check_number("--port", args.port, 1, 65535)
    page = build()
    themes: Any = importlib.import_module("gradio.themes")
    font = ("system-ui", "sans-serif")
    page.launch(
        server_name=args.host,
        server_port=args.port,
        share=False,
        ssr_mode=False,
        footer_links=["gradio"],
        theme=themes.Soft(primary_hue="emerald", font=font, font_mono=("monospace",)),
        css=_PAGE_LOOK,
        **options,
    )
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    serve(tyro.cli(Args, args=argv, description=__doc__))
    return 0

"""The page in the browser: what it does without Gradio, and, where there is one, in Chromium."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jumpy_mbrl.agents import load_agent
from jumpy_mbrl.commands.main import run
from jumpy_mbrl.lab import demo
from jumpy_mbrl.play.game import Score

TABLE = demo.deal(np.random.default_rng(49))


def text(**changes: str) -> str:
    """The lines of `TABLE`, with others in place of some."""
    lines = dict(line.split(": ") for line in demo.write_text(TABLE).splitlines())
    return "\n".join(f"{k}: {v}" for k, v in {**lines, **changes}.items())


# -- without Gradio --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_balls_are_where_they_were_placed_when_the_cue_strikes(seed: int) -> None:
    table = demo.deal(np.random.default_rng(seed))
    read = demo.read_text(demo.write_text(table))
    assert all(np.allclose(read[name], table[name], atol=1e-3) for name in table)
    shot, record, seconds = demo.play(table, load_agent("none"))
    now = np.concatenate([shot.positions, shot.velocities], axis=1)
    assert np.abs(now - table["balls"]).max() < 1e-9 and (seconds or 0) > 0
    assert np.allclose(record.real[0], record.imagined[0], atol=0.01)


def test_an_oracle_imagines_what_happens_and_wins_any_target() -> None:
    table = {**TABLE, "target": [0.4, 0.6, 0.7, 0.9]}
    _, record, _ = demo.play(table, demo._agent("simulator"))
    half = record.imagined[::2]  # which has twice as many points
    n = min(len(half), len(record.real))
    assert record.is_success and n > 2 and np.allclose(half[:n], record.real[:n], atol=1e-4)
    assert record.config.target == (0.4, 0.6, 0.7, 0.9)


def test_a_shot_is_shown_judged_and_counted() -> None:
    _, mine, none = demo.play(TABLE)
    _, its, seconds = demo.play(TABLE, demo._agent("jumpy"))
    assert (mine.is_success, its.is_success, none, mine.belief) == (False, True, None, None)
    told = demo.verdict("jumpy", its, seconds)
    assert re.search(r"### In!.*`jumpy`: \d+ frames.*3 ticks.*\d ms\*\*, 100 % sure$", told, re.S)
    assert demo.verdict("you", mine).startswith("### Missed\n\n`you`: 41 frames, imagined in **")
    scores = demo.scored(demo.scored({}, "jumpy", True), "you", False)
    assert demo.scored(scores, "you", True)["you"] == Score(1, 2) and scores["you"] == Score(0, 1)
    assert demo.tell(scores) == "Won so far: `jumpy` 1 of 1 · `you` 0 of 1"
    table = json.loads(json.dumps(demo.shown(TABLE, its), allow_nan=False))
    assert np.shape(table["show"]["real"])[0::2] == (2, 2) and table["show"]["won"]
    assert demo.play(table)[1].is_success  # its shot, taken again


def test_a_film_is_a_gif_of_three_tables() -> None:
    data = re.findall(r'base64,([^"]+)"', demo.film(demo.play(TABLE)[0]))[0]
    film: Any = Image.open(io.BytesIO(base64.b64decode(data)))
    assert film.format == "GIF" and film.n_frames > 80 and film.width > 3 * 260


BALLS = TABLE["balls"]
BAD_TABLES: list[tuple[Any, str]] = [
    (None, "expected a table"),
    ([], "expected a table"),
    ("{}", "expected a table"),
    ({}, "expected a table"),
    ({**TABLE, "balls": [[10**400] * 4] * 2}, "expected a table"),
    ({**TABLE, "balls": []}, "x, y, vx and vy for each of 2 balls"),
    ({**TABLE, "balls": BALLS * 2}, "x, y, vx and vy for each of 2 balls"),
    ({**TABLE, "balls": [BALLS[0], BALLS[0]]}, "do not overlap.*move them apart"),
    ({**TABLE, "balls": [[0.05, 0.5, 0, 0], BALLS[1]]}, "inside the table.*ball 0 at"),
    ({**TABLE, "balls": [[0.5, float("nan"), 0, 0], BALLS[1]]}, "finite.*for ball 0"),
    ({**TABLE, "balls": [[*BALLS[0][:2], 9, 0], BALLS[1]]}, "slow the balls down"),
    ({**TABLE, "shot": [float("inf"), 0]}, "two finite numbers"),
    ({**TABLE, "shot": [1]}, r"action of shape \(2,\)"),
    ({**TABLE, "target": [1, 0, 0, 1]}, "0 <= low < high <= 1"),
    ({**TABLE, "target": [0, 1]}, "expected target"),
]


@pytest.mark.parametrize(("table", "message"), BAD_TABLES)
def test_impossible_tables_are_refused_in_words(table: Any, message: str) -> None:
    for use in (demo.play, demo.write_text):
        with pytest.raises(ValueError, match=message):
            use(table)


BAD_TEXTS = [
    ("", "a line 'cue ball' with its numbers"),
    (text(shot="a b"), "numbers after 'shot', got 'a b'"),
    (text(shots="1 1"), "did you mean 'shot'"),
    (text(**{"cue ball": "nan 0.5 0 0"}), "finite"),
    (text(**{"cue ball": ""}), "expected"),
]


@pytest.mark.parametrize(("lines", "message"), BAD_TEXTS)
def test_impossible_numbers_are_refused_in_words(lines: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demo.write_text(demo.read_text(lines))


def test_without_gradio_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo.Args().host == "127.0.0.1" and run("demo") == 2
    assert capsys.readouterr().err.endswith("pip install 'jumpy-mbrl[demo]'\n")


# -- in a browser ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_visitors_drag_shoot_plan_and_err(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio (the extra 'demo') is missing")
    playwright: Any = pytest.importorskip("playwright.sync_api")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = demo.serve(demo.Args(port=port), prevent_thread_lock=True)
    assert page.local_url == f"http://127.0.0.1:{port}/" and page.share_url is None
    assert not page.analytics_enabled
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=shutil.which("chromium"), args=root)
        asked: list[str] = []
        size = {"width": 1240, "height": 1230}
        visitor = chromium.new_page(viewport=size, reduced_motion="reduce")  # balls do not roll
        visitor.on("request", lambda request: asked.append(request.url))
        other = chromium.new_page()
        for each in (visitor, other):
            each.goto(page.local_url)
        see = playwright.expect
        see.set_options(timeout=60_000)
        table, numbers = visitor.locator(".table"), visitor.locator("textarea")

        def click(name: str) -> None:
            visitor.get_by_role("button", name=name).click()

        def drag(grip: str, x: float, y: float) -> None:
            """Drags something to a place on the table."""
            begin, all_ = (
                visitor.locator(f'[data-grip="{grip}"]').bounding_box(),
                table.bounding_box(),
            )
            scale = all_["width"] / 112
            visitor.mouse.move(begin["x"] + begin["width"] / 2, begin["y"] + begin["height"] / 2)
            visitor.mouse.down()
            visitor.mouse.move(
                all_["x"] + scale * (6 + 100 * x), all_["y"] + scale * (106 - 100 * y)
            )
            visitor.mouse.up()

        def says(words: str) -> None:
            see(visitor.get_by_text(re.compile(words)).first).to_be_visible()

        click("Numbers")
        drag("target 0", 0.9, 0.9)
        see(numbers).to_have_value(re.compile(r"target: 0\.8\d\d 1\.000 0\.8\d\d 1\.000"))
        click("Let it plan")
        says(r"planned in \d+ ms")
        says("Won so far: jumpy 1 of 1")
        see(visitor.locator("img.film")).to_be_visible()
        see(table.locator(".imagined")).to_have_count(2)
        visitor.screenshot(path=tmp_path / "page.png")
        drag("arrow 2", 0.3, 0.9)
        see(table.locator(".imagined")).to_have_count(0)
        click("Take my shot")
        says(r"jumpy 1 of 1 · you \d of 1")
        see(table.locator(".imagined")).to_have_count(2)
        drag("ball 1", *BALLS[0][:2])
        says("expected balls that do not overlap")
        click("Let it plan")
        numbers.fill(text(**{"cue ball": "0.5 nan 0 0"}))
        click("Use these numbers")
        says("one finite")
        click("New table")
        see(numbers).not_to_have_value(re.compile("nan"))
        click("Take my shot")
        says(r"jumpy 1 of 1 · you \d of 2")
        see(other.get_by_text("nobody has shot yet")).to_be_visible()
        visitor.set_viewport_size({"width": 360, "height": 740})
        assert visitor.evaluate("document.documentElement.scrollWidth") <= 360
        assert [url for url in asked if not url.startswith((page.local_url, "data:"))] == []
        chromium.close()
    page.close()

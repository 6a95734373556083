"""The soak: a short one is clean, and each kind of violation is found and fails it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.commands import main
from jumpy_mbrl.envs import billiards, physics
from jumpy_mbrl.envs.starts import check_positions
from jumpy_mbrl.lab import soak

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; returns the exit code and what was printed."""

    def run(*argv: str) -> tuple[int, str]:
        code = main.run("soak", argv)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_a_short_soak_is_clean(run: Run) -> None:
    code, printed = run("--frames", "20000")
    assert code == 0, printed
    assert "0 violations" in printed


def test_it_stops_in_time() -> None:
    report = soak.soak(soak.Args(seconds=0.3))
    assert report.episodes > 1
    assert report.frames < 100_000
    assert report.violations == []


def test_every_kind_of_table_is_played() -> None:
    configs = [soak.draw_config(np.random.default_rng(seed)) for seed in range(300)]
    assert {config.num_balls for config in configs} == set(range(1, 9))
    assert min(config.dt for config in configs) < 0.002
    assert max(config.dt for config in configs) > 0.4
    rng = np.random.default_rng(0)
    for config in configs:
        block = check_positions(soak.packed(config, rng), config)
        assert soak.overlaps(block[None], config.radius)[0] == pytest.approx(0.0, abs=1e-15)


def gain(x: Any, v: Any) -> None:
    v[:] = [speed * (1 + 1e-9) for speed in v]


def lose_a_ball(x: Any, v: Any) -> None:
    x[-1] = float("nan")


def sink_into_a_wall(x: Any, v: Any) -> None:
    x[0] = 1e-3


def meet(x: Any, v: Any) -> None:
    x[2:4] = [x[0], x[1] + 1e-3][: len(x) - 2]


def stop_with_an_error(x: Any, v: Any) -> None:
    raise RuntimeError("too many contacts")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (gain, "energy drifted by"),
        (lose_a_ball, "not finite"),
        (sink_into_a_wall, "overlap of"),
        (meet, "overlap of"),
        (stop_with_an_error, "seed 7: RuntimeError: too many contacts"),
    ],
)
def test_violations_are_found_and_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch, damage: Any, message: str
) -> None:
    def worse(x: Any, v: Any, *settings: Any) -> tuple[int, int]:
        contacts = physics.advance(x, v, *settings)
        damage(x, v)
        return contacts

    monkeypatch.setattr(billiards, "advance", worse)
    code, printed = run("--frames", "300", "--seed", "7")
    assert code == 1
    assert message in printed
    assert "seed 7" in printed or "seed 8" in printed


def test_growing_memory_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([100.0, 120.0])
    monkeypatch.setattr(soak, "peak_memory", lambda: next(peaks))
    code, printed = run("--frames", "500")
    assert code == 1
    assert "memory grew by 20.0 MiB" in printed


@pytest.mark.parametrize("argv", [("--frames", "0"), ("--seconds", "0"), ("--seconds", "nan")])
def test_nonsense_is_refused(run: Run, argv: Any) -> None:
    code, printed = run(*argv)
    assert code == 2
    assert f"soak: expected {argv[0]}" in printed

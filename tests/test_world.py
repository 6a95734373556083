"""Models and policies that are to play in another world than they have learned are told of."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl import models
from jumpy_mbrl.adapters.model_env import WorldModelVectorEnv
from jumpy_mbrl.agents import AGENTS, GradientPlanner, OtherGameError, PlannerConfig, load_agent
from jumpy_mbrl.agents.model_free import PolicyAgent
from jumpy_mbrl.agents.planning.trace import trace_plan
from jumpy_mbrl.data import DatasetConfig, TaskConfig
from jumpy_mbrl.envs.config import LINE_CONFIG, TableConfig
from jumpy_mbrl.envs.rules import Task, line_task, plane_task
from jumpy_mbrl.evaluation import Variant, evaluate_agent, make_tables, record_shot
from jumpy_mbrl.lab.rollouts import imagined_rollout, watch_shot
from jumpy_mbrl.models import RNN, EventJump, RNNConfig, from_pretrained, save_pretrained
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.models.pretrained import pretrained_info
from jumpy_mbrl.models.world import OtherWorldWarning, warn_of_other_world
from jumpy_mbrl.objectives import objective_of

QUICK = PlannerConfig(candidates=2, gradient_steps=0, finalists=0)
SMALL: dict[str, Any] = {"radius": 0.05}


def an_rnn(data: Any = None, command: Any = None, obs_size: int = 4) -> models.WorldModel:
    model = RNN(RNNConfig(obs_size=obs_size, hidden_size=4, mlp_size=4))
    model.record = {"data": data or DatasetConfig().to_dict(), "training": {"command": command}}
    return model


def warning_of(model: models.WorldModel, task: Task) -> str:
    """What a model is warned of, or nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_other_world(model, task)
    assert all(one.category is OtherWorldWarning for one in caught) and len(caught) <= 1
    return str(caught[0].message) if caught else ""


# -- what matters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"config": SMALL}, "radius 0.1, here 0.05"),
        ({"config": {"dt": 0.1}}, "dt 0.05, here 0.1"),
        ({"config": {"restitution": 0.5}}, "restitution 1.0, here 0.5"),
        ({"config": {"max_impulse": 4.8}}, "max_impulse 1.2, here 4.8"),
        ({"config": {"max_speed": 3.0}}, "max_speed 1.8, here 3.0"),
        ({"config": {"lead_in": 2}}, "lead_in 3, here 2"),
        ({"config": {"initial_speed_max": 1.5}}, "fastest start 1.2, here 1.5"),
        ({"config": {"initial_speed_std": 0.1}}, ""),
        ({"config": {"target": (0.0, 0.3, 0.4, 0.6)}}, ""),
        ({"config": {"num_frames": 90}}, ""),
        ({"num_balls": 5}, ""),
        ({"start": "rest"}, ""),
        ({"random_target": True, "success": "last", "reward": "dense"}, ""),
    ],
)
@pytest.mark.parametrize("name", ["jumpy", "rnn"])
def test_what_a_model_is_warned_of_and_what_it_is_told_to_do(
    name: str, arguments: Any, told: str, load_script: Callable[[str], ModuleType]
) -> None:
    task = plane_task(**arguments)
    if name == "rnn" and task.config.num_balls != 2:
        with pytest.raises(OtherGameError):
            load_agent(name, task=task, device="cpu")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_agent(name, task=task, device="cpu")
    assert len(caught) == (1 if told else 0)
    if not told:
        return
    text = str(caught[0].message)
    assert caught[0].category is OtherWorldWarning and caught[0].filename == __file__
    assert f"({told})" in text and "may be false" in text
    found = re.search(r"to train one there: python \S+ (.*), and then play with runs/there/b", text)
    assert found is not None
    asked = load_script("train_world_model").parse(shlex.split(found[1])).config
    trained = pretrained_info(AGENTS[name].checkpoint or "")["training"]["config"]
    assert (asked.steps, asked.batch_size) == (trained["steps"], trained["batch_size"])
    for part in (asked.train_data, asked.validation_data):
        assert part.table == task.config and part.start == task.start
    assert warning_of(an_rnn(asked.train_data.to_dict()), task) == ""


@pytest.mark.parametrize("name", ["jumpy", "ppo"])
def test_numbers_that_were_rounded_are_no_other_world(name: str) -> None:
    table = TableConfig()
    changes = {
        field: np.float32(getattr(table, field))
        for field in ("radius", "dt", "max_impulse", "max_speed", "initial_speed_max")
    }
    task = plane_task(config={**changes, "target": tuple(map(np.float32, table.target))})
    assert task.config.radius != table.radius and task.config.target != table.target
    load_agent(name, task=task, device="cpu")


def test_models_of_events_read_more_context_frames_and_others_do_not() -> None:
    task = plane_task(config={"lead_in": 5})
    assert warning_of(from_pretrained("fold-billiards2d"), task) == ""
    assert "lead_in 3, here 5" in warning_of(from_pretrained("jumpy-rnn-billiards2d"), task)


@pytest.mark.parametrize(
    ("data", "task", "told"),
    [
        (DatasetConfig(start="rest"), plane_task(), "fastest start 0.0, here 1.2"),
        (DatasetConfig(shot="none"), plane_task(), "shot none, here uniform"),
        (DatasetConfig(TableConfig(**SMALL)), plane_task(config=SMALL), ""),
        (DatasetConfig(LINE_CONFIG, shot="place"), line_task(), ""),
        (DatasetConfig(LINE_CONFIG, shot="place"), plane_task(num_balls=1), "shot place, here un"),
        (DatasetConfig(TableConfig(num_balls=1)), line_task(), "shot uniform, here place"),
        (
            DatasetConfig(LINE_CONFIG, shot="place"),
            line_task(config={**SMALL, "max_impulse": 5.0, "initial_speed_max": 1.5}),
            "radius 0.1, here 0.05",
        ),
    ],
)
def test_starts_and_shots(
    data: DatasetConfig, task: Task, told: str, load_script: Callable[[str], ModuleType]
) -> None:
    text = warning_of(an_rnn(data.to_dict()), task)
    assert f"({told}" in text if told else not text
    if told:
        words = text.partition("train_world_model.py ")[2].partition(", and then")[0]
        asked = load_script("train_world_model").parse(shlex.split(words)).config.train_data
        assert warning_of(an_rnn(asked.to_dict()), task) == ""


@pytest.mark.parametrize("start", ["python scripts/train_world_model.py", "jumpy-mbrl train"])
def test_the_command_of_the_model_is_told(start: str) -> None:
    model = an_rnn(command=f"{start} --preset rnn --steps 7 --run-dir x")
    text = warning_of(model, plane_task(config=SMALL))
    assert f"{start} --preset rnn --steps 7 --train-data.table.radius 0.05" in text


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"table": None},
        {"table": {"radius": "large"}},
        {"table": {"gravity": 9.81}},
        {"table": SMALL, "made_by": "hand"},
        {"sha256": "0" * 64},
        TaskConfig("circles").to_dict(),
    ],
)
def test_a_model_without_such_a_record_is_left_alone(data: Any) -> None:
    model = an_rnn({"note": "anything"})
    model.record = {"data": data, "training": {"command": "'"}}
    task = plane_task(config=SMALL)
    assert warning_of(model, task) == ""
    assert warning_of(RNN(RNNConfig(hidden_size=4, mlp_size=4)), task) == ""
    model.record = {**model.record, "data": DatasetConfig().to_dict()}
    assert "--preset fold-jump --train-data.table.radius 0.05" in warning_of(model, task)


def test_a_simulator_is_of_its_own_table() -> None:
    model = SimulatorModel()
    text = warning_of(model, plane_task(config={**SMALL, "initial_speed_max": 1.5, "lead_in": 2}))
    assert "(radius 0.1, here 0.05)" in text and "make a SimulatorModel of this table" in text
    load_agent("simulator", task=plane_task(config=SMALL))


# -- where -----------------------------------------------------------------------------------------


def test_one_warning_for_each_model_and_world() -> None:
    model = from_pretrained("rnn-billiards2d")
    with pytest.warns(OtherWorldWarning, match="radius 0.1, here 0.05") as caught:
        WorldModelVectorEnv(model, config=SMALL)
        WorldModelVectorEnv(model, config=SMALL)
    assert [one.filename for one in caught] == [__file__]
    with pytest.warns(OtherWorldWarning, match="dt 0.05, here 0.1"):
        WorldModelVectorEnv(model, config={"dt": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWorldWarning)
        for _ in range(2):
            with pytest.raises(OtherWorldWarning, match=r"max_speed 1\.8, here 2\.0"):
                WorldModelVectorEnv(model, config={"max_speed": 2.0})


def test_wherever_a_model_meets_a_table() -> None:
    small = Variant("small balls", arguments={"config": SMALL})
    tables = make_tables(2, variant=small)
    agent: Any = load_agent("rnn", device="cpu", config=QUICK)
    with pytest.warns(OtherWorldWarning, match="RNN knows another world"):
        result = evaluate_agent(agent, tables)
    record_shot(agent, tables[:1], result.actions[0])  # warned already
    agent = load_agent("jumpy", device="cpu", config=QUICK)
    with pytest.warns(OtherWorldWarning, match="FoldJump knows another world"):
        record_shot(agent, tables[:1], result.actions[0])
    config = small.task.config
    truth = tables.positions[0].reshape(2, 2), tables.velocities[0].reshape(2, 2)
    agent = load_agent("jumpy", device="cpu", config=QUICK)
    with pytest.warns(OtherWorldWarning, match="FoldJump"):
        trace_plan(agent, tables.frames[0], *truth, config)
    shot = watch_shot(0, load_agent("none"), config)
    with pytest.warns(OtherWorldWarning, match="RNN"):
        imagined_rollout(from_pretrained("rnn-billiards2d"), shot, np.array([4.0]))


def test_the_record_stays_with_the_model(tmp_path: Path) -> None:
    data = DatasetConfig(TableConfig(**SMALL)).to_dict()
    folder = save_pretrained(
        EventJump(models.EventJumpConfig(hidden_size=4)), tmp_path / "one", data=data
    )
    again = save_pretrained(from_pretrained(folder), tmp_path / "two")
    assert pretrained_info(again)["data"] == pretrained_info(folder)["data"] != {}
    task = plane_task(num_balls=4)
    with pytest.warns(OtherWorldWarning, match="EventJump .*radius 0.05, here 0.1"):
        agent = load_agent("jumpy", task=task, device="cpu", checkpoint=again)
    assert isinstance(agent, GradientPlanner) and agent.model.obs_size == 8
    # Inside of a `PlacementModel`.
    with pytest.warns(OtherWorldWarning, match="FoldJump .*dt 0.05, here 0.1"):
        load_agent("jumpy", task=line_task(config={"dt": 0.1}), device="cpu")
    other = save_pretrained(from_pretrained(folder), tmp_path / "three", data={"by": "hand"})
    assert pretrained_info(other)["data"] == {"by": "hand"}
    own = EventJump(models.EventJumpConfig(hidden_size=4))
    GradientPlanner(own, objective_of(task), QUICK)
    assert own.record == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"config": SMALL}, "radius 0.1, here 0.05"),
        ({"config": {"max_speed": 3.0}}, "max_speed 1.8, here 3.0"),
        ({"config": {"target": [0.0, 0.2, 0.0, 0.2]}}, "target (0.8, 1.0, 0.0, 0.2), here (0.0, "),
        ({"config": {"target": (0.85, 0.95, 0.0, 0.2)}}, ""),
        ({"random_target": True}, ""),
    ],
)
def test_policies_are_warned_of_too(arguments: Any, told: str) -> None:
    task = plane_task(**arguments)
    advice = f"make_vec_env('Billiards2DShot-v0', config={arguments.get('config', {})}, start='mov"
    for name in ("ppo", "sac"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_agent(name, task=task)
        assert len(caught) == (1 if told else 0)
        for one in caught:
            assert one.category is OtherWorldWarning
            assert f"the policy '{name}-billiards2d'" in str(one.message)
            assert f"({told}" in str(one.message) and advice in str(one.message)


def test_policies_of_ones_own_say_what_they_have_learned() -> None:
    task = plane_task(config=SMALL)
    training: dict[str, Any] = {"obs_type": "coords", "random_target": False}
    PolicyAgent(object(), training, task)
    PolicyAgent(object(), {**training, "table": SMALL}, task)
    with pytest.warns(OtherWorldWarning, match=r"'object' .*radius 0.1, .*; fastest start 0"):
        PolicyAgent(object(), {**training, "table": {}, "start": "rest"}, task)
    moved = plane_task(config={"target": (0.0, 0.2, 0.0, 0.2)})
    PolicyAgent(object(), {**training, "random_target": True, "table": {}}, moved)

"""The contract of world models, over every kind that is registered, and those around them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl import models
from jumpy_mbrl.data import dataset, recording, tasks
from jumpy_mbrl.envs.config import LINE_CONFIG
from jumpy_mbrl.models import registry
from jumpy_mbrl.models.base import State, WorldModel
from jumpy_mbrl.models.bodies.event_driven import EventState
from jumpy_mbrl.models.bodies.placement import LineSimulator, PlacementModel
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.training.loss import Loss

CONFIGS: dict[str, Any] = {
    "rnn": models.RNNConfig(4, 2, 8, 8),
    "rnn of frames": models.RNNConfig(4, 2, 8, 8, residual=False, scale=(0.5, 1.0, 2.0, 1.0)),
    "ode-rnn": models.ODERNNConfig(4, 2, 8, 8, dynamics_size=8, rtol=1e-9, atol=1e-11),
    "ode-rnn of frames": models.ODERNNConfig(4, 2, 8, 8, dynamics_size=8, residual=False),
    "jumpy-rnn": models.JumpyRNNConfig(4, 2, 8, 8, horizon=9.0, epsilon=0.01, context_frames=1),
    "jumpy-rnn as printed": models.JumpyRNNConfig(4, 2, 8, 8, horizon=9.0, residual=False),
    "latent-jump": models.LatentJumpConfig(4, 2, 3, 5, 8, 3, 6, center=(0.5,), scale=(0.5,)),
    "relational-jump": models.RelationalJumpConfig(
        passes=2, hidden_size=8, event_size=8, horizon=6
    ),
    "relational-jump of entities": models.RelationalJumpConfig(
        same_everywhere=False, latent_size=2, hidden_size=8, event_size=8, window=3, horizon=6
    ),
    "relational-jump of a vector": models.RelationalJumpConfig(
        1, 4, same_everywhere=False, latent_size=3, hidden_size=8, event_size=8, horizon=20
    ),
    "event-jump": models.EventJumpConfig(hidden_size=8),
    "event-jump on a line": models.EventJumpConfig(axes=1, hidden_size=8),
    "fold-jump": models.FoldJumpConfig(hidden_size=8),
    "sprite-jump": models.SpriteJumpConfig(hidden_size=8, size=12),
    "keypoint-jump": models.KeypointJumpConfig(
        hidden_size=8, event_size=8, horizon=6, size=6, channels=1, width=3
    ),
}
PICTURED = "sprite-jump", "keypoint-jump"
KINDS = tuple(CONFIGS)
NO_WEIGHTS: dict[str, Callable[[], WorldModel]] = {
    "simulator": SimulatorModel,
    "placement": lambda: PlacementModel(LineSimulator(LINE_CONFIG), LINE_CONFIG),
    "sequence": lambda: models.ActionSequence(SimulatorModel(), [0.0, 1.5]),
}
ALL = (*KINDS, *NO_WEIGHTS)
START = torch.tensor([[0.2, 0.5, 0.8, 0.55], [0.3, 0.3, 0.7, 0.75], [0.25, 0.8, 0.6, 0.2]])
MOVE = torch.tensor([[0.02, 0.01, -0.03, 0.02], [0.0, 0.03, 0.01, -0.01], [0.03, -0.01, 0.0, 0.0]])
TIMES = [0.0, 0.4, 1.0, 2.0, 3.75, 9.0]


def make(name: str) -> WorldModel:
    """An untrained model that ticks at various times, in double precision."""
    if name in NO_WEIGHTS:
        return NO_WEIGHTS[name]()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model: Any = models.make_model(CONFIGS[name]).double().eval()
        if isinstance(model, models.JumpyRNN):
            model.duration.weight.mul_(6.0)
            model.duration.bias.fill_(0.7)
        if isinstance(model, models.LatentJump):
            for network in (model.encoder, model.decoder):
                nn.init.normal_(network.last.weight, std=0.4)
            model.hazard.last.weight.mul_(8.0)
        if isinstance(model, models.RelationalJump | models.KeypointJump):
            for name, weight in getattr(model, "bodies", model).named_parameters():
                if "alone" in name or "pair" in name or name.startswith("act"):
                    nn.init.normal_(weight, std=0.04)
        if isinstance(model, models.KeypointJump):
            nn.init.normal_(model.eyes.paint)
        if isinstance(model, models.EventJump) and not isinstance(model, models.FoldJump):
            model.single_level.skip.weight.copy_(torch.tensor([[-1.0, 0.1]]))
            model.single_level.skip.bias.fill_(0.4)
    made: WorldModel = model
    return made


@pytest.fixture(params=ALL)
def model(request: pytest.FixtureRequest) -> WorldModel:
    return make(request.param)


def film(model: WorldModel, length: int = 5) -> Tensor:
    """Frames (3, length, D) of slow balls."""
    size = min(4, model.obs_size)
    ages = torch.arange(length).view(1, -1, 1)
    places = (START.unsqueeze(1) + MOVE.unsqueeze(1) * ages)[..., -size:].double()
    if isinstance(model, models.KeypointJump):
        return model.eyes.draw(places.view(-1, 2, 2)).view(3, length, -1).detach()
    return model.sprites.draw(places).detach() if isinstance(model, models.SpriteJump) else places


def shots(model: WorldModel, *leading: int) -> Tensor:
    """Actions of three rows."""
    generator = torch.Generator().manual_seed(1)
    size = (3, *leading, model.action_size)
    return torch.rand(size, generator=generator, dtype=torch.float64) - 0.5


def assert_close(found: State, wanted: State) -> None:
    assert type(found) is type(wanted)
    for name, value in vars(wanted).items():
        torch.testing.assert_close(vars(found)[name], value, msg=name)


# -- predictions ---------------------------------------------------------------------------------


def test_shapes_and_precision(model: WorldModel) -> None:
    state, D = model.observe(film(model)), model.obs_size
    for rows in (slice(0, 3), slice(1, 2), slice(0, 0)):
        part, action = state[rows], shots(model)[rows]
        for imagined in (model.imagine(part, TIMES), model.imagine(part, TIMES, action)):
            B, final = part.batch_size, imagined.state
            assert imagined.obs.shape == (B, 6, D) and imagined.obs.dtype == torch.float64
            assert imagined.tick_times.shape[0] == B and final.batch_size == B
            assert {len(value) for value in vars(final).values()} == {B}
            assert bool((imagined.tick_times.diff(dim=1).nan_to_num(1.0) >= 0.0).all())
    first = model.initial_state(2)
    assert first.obs.shape == (2, D) and model.imagine(first, [1.0]).obs.shape == (2, 1, D)


def test_it_is_deterministic_and_leaves_torch_s_generator_alone(model: WorldModel) -> None:
    before, obs = torch.get_rng_state(), film(model)
    one, two = (model.imagine(model.observe(obs), TIMES, shots(model)) for _ in range(2))
    assert torch.equal(one.obs, two.obs) and torch.equal(one.tick_times, two.tick_times)
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_are_in_a_batch_as_they_are_alone(model: WorldModel) -> None:
    together = model.imagine(model.observe(film(model)), TIMES, shots(model))
    for row in range(3):
        rows = slice(row, row + 1)
        alone = model.imagine(model.observe(film(model)[rows]), TIMES, shots(model)[rows])
        torch.testing.assert_close(alone.obs, together.obs[rows])
        assert torch.equal(alone.ticks, together.ticks[rows])
        assert_close(alone.state, together.state[rows])


def test_now_is_what_the_state_holds(model: WorldModel) -> None:
    obs = film(model)
    state = model.observe(obs)
    assert torch.equal(state.obs, obs[:, -1])
    assert torch.equal(model.imagine(state, [0.0, 1.0]).obs[:, 0], obs[:, -1])
    moved = replace(state, obs=state.obs + 0.125)
    assert torch.equal(model.imagine(moved, [0.0]).obs[:, 0], moved.obs)


@pytest.mark.parametrize("shoots", [False, True])
def test_times_asked_in_one_go_one_by_one_or_step_by_step(model: WorldModel, shoots: bool) -> None:
    first, clock, ticks = model.observe(film(model)), 0.0, torch.zeros(3, dtype=torch.long)
    times = [0.0, 1.0, 3.0, 4.0, 9.0]
    if not isinstance(model, models.LatentJump):  # Its window remembers whole frames.
        times = [0.0, 0.25, 0.25, 0.75, 1.0, 1.4, 2.0, 3.75, 9.0]
    shot = action = shots(model) if shoots else None
    whole, state = model.imagine(first, times, action), first
    for k, time in enumerate(times):
        step = model.imagine(state, [time - clock], shot)
        for found in (model.imagine(first, [time], action), step):
            torch.testing.assert_close(found.obs[:, 0], whole.obs[:, k])
            if time:  # What is now need not be what is decoded.
                torch.testing.assert_close(found.state.obs, whole.obs[:, k])
        if isinstance(model, models.ActionSequence) and shoots:
            continue  # Its later actions are still to come.
        state, clock, shot, ticks = step.state, time, None, ticks + step.ticks
    if clock:
        assert torch.equal(ticks, whole.ticks)
        assert_close(state, whole.state)


@pytest.mark.parametrize("time", [2.0, 1.5])
def test_a_later_action_is_read_at_its_time(model: WorldModel, time: float) -> None:
    state, action = model.observe(film(model)), shots(model)
    if isinstance(model, models.RNN) and time % 1.0:
        with pytest.raises(ValueError, match=r"only at whole frames, got one 0\.5 frames before"):
            model.imagine(state, [3.0], action, [time])
        return
    imagined = model.imagine(state, [1.0, time, 3.0, 4.25], action, [time])
    before = model.imagine(state, [1.0, time])
    after = model.imagine(before.state, [0.0, 3.0 - time, 4.25 - time], action)
    torch.testing.assert_close(imagined.obs[:, :1], before.obs[:, :1])
    torch.testing.assert_close(imagined.obs[:, 1:], after.obs)
    assert bool((imagined.tick_times == time).any(dim=1).all()), "an action is a tick"
    both = model.imagine(state, [4.25], torch.stack([shots(model), action], 1), [0.0, time])
    first = model.imagine(state, [time], shots(model))
    torch.testing.assert_close(both.obs, model.imagine(first.state, [4.25 - time], action).obs)


def test_actions_at_the_frames_are_read_but_the_last(model: WorldModel) -> None:
    obs, size = film(model), getattr(model, "model", model).action_size or 2
    action = 0.1 * torch.rand(3, 5, size, generator=torch.Generator().manual_seed(2)).double()
    other = action.clone()
    other[:, -1] = 5.0
    if isinstance(model, PlacementModel):
        with pytest.raises(ValueError, match="no shot was played"):
            model.observe(obs, action)
        action[:, :-1], other[:, :-1] = 0.0, 0.0
    assert_close(model.observe(obs, other), model.observe(obs, action))
    assert_close(model.observe(obs, torch.zeros_like(action)), model.observe(obs))
    if isinstance(model, models.RNN | models.ODERNN | models.JumpyRNN):
        other[:, 2] = 5.0
        assert not torch.equal(model.observe(obs, other).hidden, model.observe(obs, action).hidden)


@pytest.mark.parametrize("name", KINDS[:6])
def test_observing_is_ticking_at_every_frame(name: str) -> None:
    model = make(name)
    obs, action = film(model), shots(model, 5)
    state = model.initial_state(3)
    for t in range(4):
        state = model.imagine(replace(state, obs=obs[:, t]), [1.0], action[:, t]).state
    known, found = replace(state, obs=obs[:, -1]), model.observe(obs, action)
    assert not found.remaining.any()
    for shot in (action[:, 4], action[:, 0]):
        torch.testing.assert_close(
            model.imagine(found, TIMES, shot).obs, model.imagine(known, TIMES, shot).obs
        )
    one = model.imagine(model.observe(obs[:, :1]), TIMES, action[:, 0]).obs
    first = replace(model.initial_state(3), obs=obs[:, 0])
    torch.testing.assert_close(one, model.imagine(first, TIMES, action[:, 0]).obs)


def test_gradients_are_those_of_finite_differences(model: WorldModel) -> None:
    obs, action = film(model)[:1].requires_grad_(), shots(model)[:1].requires_grad_()
    # Bodies' velocities are those of the best of several proposals, which are equal here.
    smooth = not isinstance(model.observe(obs), EventState)

    def after(shot: Tensor, frames: Tensor) -> Tensor:
        return model.imagine(model.observe(frames), [1.0, 3.25, 6.0], shot).obs

    given = (action, obs) if smooth else (action, obs.detach())
    assert torch.autograd.gradcheck(after, given, eps=1e-7, atol=1e-5)
    (gradient,) = torch.autograd.grad(after(action, obs).square().sum(), action)
    assert bool(gradient.any())


# -- what is refused -----------------------------------------------------------------------------


def bad(obs: Tensor, value: float) -> Tensor:
    wrong = obs.clone()
    wrong[1, 0, 0] = value
    return wrong


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda obs: obs[..., :-1], r"obs must have shape \(B, T, \d+\), got \(3, 5, \d+\)"),
        (lambda obs: obs[0], r"obs must have shape \(B, T, \d+\), got \(5, \d+\)"),
        (lambda obs: obs[:, :0], r"obs must hold at least \d frames, got 0"),
        (lambda obs: obs.long(), r"obs must be of a floating type, got torch.int64.*divide"),
        (lambda obs: bad(obs, math.nan), r"NaN or infinity in rows \[1\]"),
        (lambda obs: bad(obs, math.inf), r"NaN or infinity in rows \[1\]"),
    ],
)
def test_bad_frames_are_refused(model: WorldModel, spoil: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model.observe(spoil(film(model)))
    too_few: Any = film(model)[:, : model.min_frames - 1]
    with pytest.raises(ValueError, match=f"at least {model.min_frames} frames"):
        model.observe(too_few)
    with pytest.raises(TypeError, match=r"must be a torch.Tensor, got ndarray; torch.as_tensor"):
        model.observe(too_few.numpy())
    model.observe(film(model, model.min_frames))


def test_bad_actions_states_and_times_are_refused(model: WorldModel) -> None:
    state, A = model.observe(film(model)), model.action_size
    for shape in ((3, A + 1), (2, A), (3, 2, A), (A,)):
        with pytest.raises(ValueError, match=rf"action must have shape \(3, 1, {A}\)"):
            model.imagine(state, [1.0], torch.zeros(shape, dtype=torch.float64))
    for times in ([], [-1.0], [2.0, 1.0], [math.nan]):
        with pytest.raises(ValueError, match="times must be"):
            model.imagine(state, torch.tensor(times))
    plain = State(state.hidden, state.velocity, state.remaining, state.obs)
    if type(state) is not State and not isinstance(model, PlacementModel):
        with pytest.raises(ValueError, match=r"expected an? \w+ from observe .*, got State"):
            model.imagine(plain, [1.0], shots(model))


@pytest.mark.parametrize("name", KINDS[:10])
def test_actions_have_to_go_with_the_frames(name: str) -> None:
    model = make(name)
    for shape in ((3, 4, 2), (3, 5, 1)):
        with pytest.raises(ValueError, match=r"action must have shape \(3, 5, 2\).*leave it out"):
            model.observe(film(model), torch.zeros(shape))


def test_settings_that_cannot_be_are_refused() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = []
    scales = ((1.0, 2.0, 3.0), ()), ((1.0, 0.0, 1.0, 1.0), (math.inf,), (math.nan,))
    for name in ("rnn", "ode-rnn", "jumpy-rnn", "latent-jump"):
        cases += [(name, {"scale": scale}, "scale to have 1 or 4 numbers") for scale in scales[0]]
        cases += [(name, {"scale": scale}, "scale to be positive and") for scale in scales[1]]
    for name, setting, values in (
        ("jumpy-rnn", "horizon", (0.5,)),
        ("jumpy-rnn", "forced_jumps", (1.5,)),
        ("jumpy-rnn", "own_jumps", (1.5,)),
        ("latent-jump", "far_weight", (1.5,)),
        ("latent-jump", "quantile", (1.0,)),
        ("relational-jump", "certainty", (1.0,)),
        ("relational-jump", "first_epsilon", (1e-5,)),
        ("relational-jump", "early_ticks", (1.5,)),
        ("relational-jump", "window", (1,)),
        ("relational-jump", "same_everywhere", (1,)),
        ("relational-jump", "actors", ((2,), (-1,), (0.5,))),
    ):
        cases += [(name, {setting: value}, f"expected {setting} to ") for value in values]
    cases += [
        ("ode-rnn", {"solver": "dopri6"}, "unknown solver 'dopri6'.*did you mean 'dopri5'"),
        ("ode-rnn", {"solver": "RK4"}, "unknown solver 'RK4', expected one of .*'rk4'"),
        ("jumpy-rnn", {"hidden_size": 7}, "even, half latent and half velocity, got 7"),
        ("jumpy-rnn", {"first_epsilon": 1e-5}, "first_epsilon to be 0, or at least epsilon"),
        ("jumpy-rnn", {"first_epsilon": 1.0, "epsilon": 0.0}, "must be positive then, got 1.0 and"),
        ("latent-jump", {"center": (0.0, 0.0)}, "center to have 1 or 4 numbers"),
        (
            "relational-jump",
            {"action_size": 3, "actors": (0, 1)},
            "equal parts for each of the act",
        ),
        ("relational-jump", {"actors": ()}, r"equal parts .*action_size=2 for 0 of them"),
        (
            "relational-jump",
            {"num_bodies": 1},
            "same_everywhere is about what bodies do to one ano",
        ),
        ("event-jump", {"axes": 3}, r"axes to be 1 \(a line\) or 2 \(a table\), got 3"),
        ("event-jump", {"action_size": 1}, r"action_size to be 0 \(no shots\) or 2, got 1"),
    ]
    for name, change, words in cases:
        with pytest.raises(ValueError, match=words):
            replace(CONFIGS[name], **change)
            pytest.fail(f"{name}: {change}")


# -- learning ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequences() -> tuple[Any, Any]:
    """Of balls on a table, and of pictures of them."""
    plane = dataset.make_dataset(dataset.DatasetConfig(num_trajectories=300, seed=3))
    return plane, tasks.make_task(tasks.TaskConfig("pixel-billiards2d", 12))


def differentiated(
    model: WorldModel, data: Any, precision: Any = "float32"
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The loss of a batch that is always the same, its log, and the gradient of all weights."""
    sampler = model.sampler(data)
    module = Loss(model, precision)
    module.zero_grad()
    loss, log = module(sampler.sample(64, torch.Generator().manual_seed(0)))
    loss.backward()
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in model.parameters()]
    return loss.detach(), log, torch.cat([gradient.flatten() for gradient in gradients])


def learner(name: str) -> WorldModel:
    """A model as it begins to learn; wide, so that half its digits are of little account."""
    wide = {"hidden_size": 16, "mlp_size": 16, "size": 28, "channels": 1}
    config = CONFIGS[name]
    if name.startswith("event-jump on"):
        config = replace(config, axes=2)
    config = replace(config, **{key: wide[key] for key in wide if hasattr(config, key)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.make_model(config)


@pytest.mark.parametrize("name", KINDS)
def test_its_loss_teaches_all_weights_in_every_precision(name: str, sequences: Any) -> None:
    model = learner(name)
    data = sequences[name in PICTURED]
    loss, log, gradient = differentiated(model, data)
    again = differentiated(model, data)
    assert torch.equal(loss, again[0]) and torch.equal(gradient, again[2])
    assert loss.shape == () and loss.dtype == torch.float32 and bool(loss.isfinite())
    assert bool(gradient.isfinite().all()) and float(gradient.norm()) > 0.0
    assert all(value.shape == () and not value.requires_grad for value in log.values())
    if name not in PICTURED:  # which learn to see first
        taught = [bool(w.grad.any()) for w in model.parameters() if w.grad is not None]
        assert sum(taught) >= 0.3 * len(list(model.parameters()))
    assert "float32" in model.precisions
    if "bfloat16" in model.precisions:
        lower, _, lower_gradient = differentiated(model, data, "bfloat16")
        assert float(lower) != float(loss) and float(lower) == pytest.approx(float(loss), rel=0.02)
        assert lower.dtype == lower_gradient.dtype == torch.float32
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        assert float(torch.cosine_similarity(lower_gradient, gradient, dim=0)) > 0.99
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", KINDS[:-2])
def test_what_is_beyond_the_end_of_a_sequence_teaches_nothing(name: str, sequences: Any) -> None:
    data, rng = sequences[0], np.random.default_rng(0)
    length = np.append(rng.integers(6, 44, 299), 45)
    T = data.obs.shape[1]
    length = np.minimum(length, T)

    def ended(padding: str) -> recording.Recording:
        obs, action = data.obs.copy(), data.action.copy()
        for row, end in zip(obs, length, strict=True):
            row[end:] = row[end - 1] if padding == "last" else rng.uniform(size=row[end:].shape)
        action[np.arange(T) >= length[:, None] - 1] = 0.0
        return recording.Recording(obs, action, np.zeros((300, T - 1)), data.context_frames, length)

    model = learner(name)
    loss, log, gradient = differentiated(model, ended("last"))
    other, other_log, other_gradient = differentiated(model, ended("random"))
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(other_log, log)
    torch.testing.assert_close(other_gradient, gradient, atol=1e-6, rtol=1e-4)
    whole, _, _ = differentiated(model, data)
    assert float(whole) != pytest.approx(float(loss), rel=1e-3), "fewer frames teach otherwise"


@pytest.mark.parametrize("name", [*KINDS[:6], "latent-jump", "event-jump", "fold-jump"])
def test_a_world_without_actions(name: str) -> None:
    model = models.make_model(replace(CONFIGS[name], action_size=0)).double()
    obs = film(model)
    assert model.imagine(model.observe(obs), TIMES).obs.shape == (3, 6, 4)
    if name in KINDS[:6]:
        loss, _ = model.loss({"obs": obs})
        assert torch.equal(loss, model.loss({"obs": obs, "action": obs.new_zeros(3, 5, 0)})[0])
    with pytest.raises(ValueError, match=r"action must have shape \(3, 1, 0\)"):
        model.imagine(model.observe(obs), TIMES, torch.zeros(3, 2))


# -- what a model is -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_it_is_saved_and_loaded_with_all_that_it_is(name: str, tmp_path: Path) -> None:
    model: Any = make(name)
    loaded: Any = models.from_pretrained(models.save_pretrained(model, tmp_path / "model"))
    assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
    weights = loaded.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    for attribute in ("batch_kind", "min_frames", "obs_size", "action_size", "on_line"):
        assert getattr(loaded, attribute) == getattr(model, attribute)
    found, wanted = (m.imagine(m.observe(film(m)), TIMES, shots(m)) for m in (loaded, model))
    assert torch.equal(found.obs, wanted.obs)
    description = json.loads(json.dumps(registry.describe_model(model.config)))
    assert registry.model_config_from(description) == model.config
    assert models.MODELS[description["name"]].model is type(model)
    default = models.MODELS[description["name"]].config()
    assert registry.model_config_from(registry.describe_model(default)) == default


def test_every_registered_kind_is_tested() -> None:
    tested = {registry.model_name(config) for config in CONFIGS.values()}
    assert tested == models.MODELS.keys()


def test_models_say_what_they_know_unlearned() -> None:
    known = {name: entry.model.built_in for name, entry in models.MODELS.items()}
    assert all(known[name] == () for name in ("rnn", "ode-rnn", "jumpy-rnn", "latent-jump"))
    flat, entities, space = (
        make(f"relational-jump{tier}").built_in for tier in (" of a vector", " of entities", "")
    )
    assert flat == () and set(flat) < set(entities) < set(space)
    assert set(known["event-jump"]) < set(known["fold-jump"]) < set(known["sprite-jump"])
    around = {name: make(name).built_in for name in NO_WEIGHTS}
    assert around["sequence"] == SimulatorModel.built_in == ("all of it",)
    assert around["placement"] == ("all of it", "what the action does")


def test_other_numbers_of_balls(model: WorldModel) -> None:
    bodies = getattr(getattr(model, "config", None), "num_bodies", 1)
    pictured = isinstance(model, models.KeypointJump)
    if pictured or (bodies == 1 and not isinstance(model, models.EventJump)):
        assert model.for_balls is None
        return
    assert model.for_balls is not None
    model.record = {"data": {"note": 1}}
    other = model.for_balls(4)
    assert other.obs_size == 2 * model.obs_size and type(other) is type(model)
    assert {id(weight) for weight in other.parameters()} == {id(w) for w in model.parameters()}
    assert other.record == model.record and other.on_line == model.on_line
    assert other.imagine(other.initial_state(2), [1.0]).obs.shape == (2, 1, other.obs_size)


def test_parts_are_what_the_model_does(model: WorldModel) -> None:
    """That they can be recorded is for the tests of exporting to say."""
    parts, state = model.parts(), model.observe(film(model))
    assert parts.keys() <= {"observe", "act", "leap", "tick", "encoder", "decoder"}
    if "observe" in parts:
        seen = parts["observe"](film(model))
        if isinstance(seen, State):
            assert_close(seen, state)
        else:  # By the last displacement, whatever happens.
            torch.testing.assert_close(seen["hidden"], state.hidden, atol=0.03, rtol=0)
            assert torch.equal(seen["obs"], state.obs) and bool((seen["error"] < 0.1).all())
    if "leap" in parts:
        shot = parts["act"](state, shots(model))
        moved = parts["leap"](shot, 0.5 * shot.remaining.clamp_max(1.0))
        torch.testing.assert_close(parts["decoder"](moved.hidden), moved.obs)


def test_the_rows_of_states(model: WorldModel) -> None:
    state = model.observe(film(model))
    assert_close(type(state).cat([state[:1], state[1:]]), state)
    assert_close(state.repeat(2)[torch.tensor([0, 2, 4])], state)
    turned = state.update_rows(torch.tensor([2, 0]), state[torch.tensor([0, 2])])
    assert_close(turned, state[torch.tensor([2, 1, 0])])


# -- what is shipped -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.shipped_models())
def test_shipped_models_answer_in_half_precision(name: str) -> None:
    exact: Any = models.from_pretrained(name)
    start = torch.linspace(0.3, 0.7, exact.obs_size)
    frames = start + 0.02 * torch.arange(4.0).view(1, 4, 1)
    wanted = exact.imagine(exact.observe(frames), [1.0, 2.0])
    assert wanted.obs.dtype == torch.float32
    for kind in (torch.float16, torch.bfloat16):
        half = models.from_pretrained(name).to(kind)
        found = half.imagine(half.observe(frames.to(kind)), [1.0, 2.0])
        assert found.obs.dtype == kind and bool(found.obs.isfinite().all())
        assert float((found.obs.float() - wanted.obs).detach().abs().median()) < 0.03

"""EventJump and FoldJump: exact rollouts of hand-set weights, and learning any table's physics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jumpy_mbrl.data.dataset import DatasetConfig, make_dataset
from jumpy_mbrl.data.tasks import TaskConfig, make_task
from jumpy_mbrl.envs import torch_physics
from jumpy_mbrl.envs.config import TableConfig
from jumpy_mbrl.models import (
    EventJump,
    EventJumpConfig,
    FoldJump,
    FoldJumpConfig,
    from_pretrained,
)
from jumpy_mbrl.models.bodies import fold_jump
from jumpy_mbrl.models.bodies.event_driven import EventState
from jumpy_mbrl.models.bodies.simulator import SimulatorModel
from jumpy_mbrl.training import validate

WALL = 0.4
"""Where the hand-set balls turn, from the middle of the table."""


def sample(model: EventJump, data: Any, size: int = 32) -> dict[str, Tensor]:
    sampler = model.sampler(data)
    return sampler.sample(size, torch.Generator().manual_seed(0))


def train(config: EventJumpConfig, data: Any, steps: int, batch: int = 256) -> Any:
    """A model trained for seconds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (FoldJump if isinstance(config, FoldJumpConfig) else EventJump)(config)  # type: ignore[arg-type]
    sampler = model.sampler(data)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss, _ = model.loss(sampler.sample(batch, generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


def hand_set(num_balls: int = 2) -> EventJump:
    """Walls at 0.5 +- 0.4 that reflect, shots that add 0.05 a frame, balls that never meet."""
    model = EventJump(EventJumpConfig(num_balls=num_balls, hidden_size=4)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.single_level.skip.weight.copy_(torch.tensor([[-1.0, 0.0]]))
        model.single_level.skip.bias.fill_(WALL)
        model.single_jump.skip.weight.copy_(torch.tensor([[0.0, 0, -1, 0], [0, 0, 0, 1]]))
        model.pair_level.skip.bias.copy_(torch.tensor([1.0, -1.0]))
        model.shot_jump.skip.weight.copy_(torch.tensor([[0.0, 1.0]]))
    return model


def a_state(model: EventJump) -> tuple[Tensor, Tensor, EventState]:
    positions = torch.tensor([[0.3, 0.7, 0.6, 0.2], [0.5, 0.5, 0.2, 0.85]]).double()
    velocities = torch.tensor([[0.061, -0.033, 0.0, 0.09], [-0.02, 0.07, 0.05, 0.05]]).double()
    return positions, velocities, model.state_from(positions, velocities)


def test_ticks_are_exactly_the_events() -> None:
    model = hand_set(1)
    state = model.state_from(
        torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.1, 0.0]]).double()
    )
    imagined = model.imagine(state, [30.0])
    expected = torch.tensor([[4.0, 12.0, 20.0, 28.0]]).double()
    torch.testing.assert_close(imagined.tick_times, expected)
    assert imagined.ticks.tolist() == [4]


def test_only_the_cue_ball_is_shot() -> None:
    model = hand_set()
    _, velocities, state = a_state(model)
    action = torch.tensor([[0.4, -0.2], [0.0, 1.0]]).double()
    after = model.tick(state, action).hidden[:, 4:]
    torch.testing.assert_close(after[:, :2], velocities[:, :2] + 0.05 * action)
    torch.testing.assert_close(after[:, 2:], velocities[:, 2:])


def test_pairs_are_seen_alike_from_every_side() -> None:
    torch.manual_seed(1)
    model = EventJump(EventJumpConfig()).double()
    offset, relative = torch.randn(6, 2).double(), torch.randn(6, 2).double()
    angle = 0.7
    turn = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    ).double()
    mirror = torch.tensor([1.0, -1.0]).double()
    change = model.pair_outcome(offset, relative)
    torch.testing.assert_close(model.pair_outcome(offset @ turn, relative @ turn), change @ turn)
    torch.testing.assert_close(
        model.pair_outcome(offset * mirror, relative * mirror), change * mirror
    )
    torch.testing.assert_close(model.pair_outcome(-offset, -relative), -change)
    torch.testing.assert_close(model.pair_outcome(offset, 3 * relative), 3 * change)


def test_what_symmetry_forbids_does_not_happen() -> None:
    torch.manual_seed(1)
    model = EventJump(EventJumpConfig()).double()
    relative = torch.tensor([[-1.0, 0.0]]).double()

    def outcome(across: float) -> Tensor:
        return model.pair_outcome(torch.tensor([[0.1, across]]).double(), relative)[0]

    assert outcome(0.0)[1].abs() < 1e-15, "a head-on contact leads nowhere to the side"
    torch.testing.assert_close(outcome(1e-9), outcome(-1e-9), atol=1e-6, rtol=0.0)
    still, none = torch.zeros(1, 2).double(), torch.zeros(1, 2).double()
    assert model.after_shot(still, none).abs().max() < 1e-15, "no push moves no ball"
    pushed = model.after_shot(still, torch.tensor([[0.5, 1e-9]]).double())
    assert pushed[0, 0].abs() > 1e-4 and pushed[0, 1].abs() < 1e-8


@pytest.mark.parametrize(
    ("places", "shot"),
    [
        ([0.3, 0.5, 0.65, 0.5], [0.9, 0.0]),
        ([0.7, 0.4, 0.35, 0.4], [-0.9, 0.0]),
        ([0.4, 0.75, 0.4, 0.3], [0.0, -0.8]),
        ([0.3, 0.3, 0.6, 0.6], [0.7, 0.7]),
        ([0.3, 0.7, 0.6, 0.4], [0.7, -0.7]),
        ([0.3, 0.5, 0.65, 0.5], [0.25, 0.0]),
    ],
)
@torch.no_grad()
def test_a_shot_straight_at_a_ball_keeps_to_its_line(
    places: list[float], shot: list[float]
) -> None:
    model, truth = from_pretrained("fold-billiards2d"), SimulatorModel()
    seen, action = torch.tensor([[places] * 4]), torch.tensor([shot])
    times = [float(frame) for frame in range(1, 45)]
    found, true = (m.imagine(m.observe(seen), times, action).obs for m in (model, truth))
    sideways = torch.tensor([-shot[1], shot[0]]) / math.hypot(*shot)
    missed = (found - true).unflatten(2, (2, 2))
    assert (missed @ sideways).abs().max() < 1e-3
    assert missed.abs().max() < 0.03


@torch.no_grad()
def test_balls_that_come_straight_at_each_other_go_straight_back() -> None:
    model = from_pretrained("fold-billiards2d")
    places = torch.tensor([[0.2, 0.5, 0.8, 0.5], [0.5, 0.25, 0.5, 0.75]])
    speeds = torch.tensor([[0.03, 0.0, -0.03, 0.0], [0.0, 0.03, 0.0, -0.03]])
    obs = model.imagine(model.state_from(places, speeds), [5.0, 11.0, 44.0]).obs  # type: ignore[operator]
    assert (obs[0, :, 1::2] - 0.5).abs().max() < 1e-3
    assert (obs[1, :, 0::2] - 0.5).abs().max() < 1e-3
    # As they are alike, what one does the other does mirrored.
    torch.testing.assert_close(obs[0, :, 0] + obs[0, :, 2], torch.ones(3), atol=1e-3, rtol=0.0)


def test_balls_at_rest_stay_and_have_finite_gradients() -> None:
    model = EventJump(EventJumpConfig())
    positions = torch.tensor([[0.3, 0.3, 0.6, 0.6]])
    state = model.state_from(positions, torch.zeros(1, 4))
    assert state.event.tolist() == [-1]
    action = torch.zeros(1, 2, requires_grad=True)
    obs = model.imagine(state, [1.0, 41.0], action).obs
    obs.sum().backward()
    assert action.grad is not None
    assert bool(action.grad.isfinite().all())


# -- balls on a line -------------------------------------------------------------------------


def on_a_line(num_balls: int = 2, axes: int = 1) -> EventJump:
    """The hand-set walls, and equal balls of diameter 0.2 that swap velocities when they touch."""
    config = EventJumpConfig(num_balls, axes, 0, hidden_size=4)
    model = EventJump(config).double()
    model.load_state_dict(hand_set(num_balls).state_dict())
    with torch.no_grad():
        # In units of 0.2: the way left is what they are apart, less 1; they meet if they approach.
        model.pair_level.skip.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        model.pair_level.skip.bias.copy_(torch.tensor([-1.0, -0.5]))
        model.pair_jump.skip.bias.copy_(torch.tensor([1.0, 0.0]))
    return model


def line_states() -> tuple[Tensor, Tensor]:
    positions = torch.tensor([[0.15, 0.6], [0.3, 0.85], [0.2, 0.75]]).double()
    velocities = torch.tensor([[0.05, -0.04], [-0.031, -0.05], [0.07, 0.013]]).double()
    return positions, velocities


def test_balls_on_a_line_move_as_known_in_closed_form() -> None:
    """Shrunk to points they pass through each other; the lower one is always the first."""
    model = on_a_line()
    positions, velocities = line_states()
    state = model.state_from(positions, velocities)
    times = [0.0, 0.5, 6.25, 20.0, 45.0]
    imagined = model.imagine(state, times)
    assert imagined.obs.shape == (3, 5, 2)
    assert int(imagined.ticks.min()) >= 5
    size = torch.tensor([0.0, 0.2]).double()
    for k, time in enumerate(times):
        free = positions - size + velocities * time - 0.1
        period = torch.remainder(free, 1.2)
        points = 0.1 + torch.where(period > 0.6, 1.2 - period, period)
        torch.testing.assert_close(imagined.obs[:, k], points.sort(dim=1).values + size)


def test_a_line_is_the_middle_of_a_table() -> None:
    line, table = on_a_line(), on_a_line(axes=2)
    positions, velocities = line_states()
    middle = torch.full_like(positions, 0.5)
    planar = torch.stack([middle, positions], dim=2).flatten(1)
    moving = torch.stack([torch.zeros_like(middle), velocities], dim=2).flatten(1)
    times = [0.25, 7.0, 30.5]
    one = line.imagine(line.state_from(positions, velocities), times)
    two = table.imagine(table.state_from(planar, moving), times)
    assert torch.equal(one.obs, two.obs[:, :, 1::2])
    assert bool((two.obs[:, :, ::2] == 0.5).all())
    assert torch.equal(one.tick_times, two.tick_times)
    assert torch.equal(line.velocities_of(one.state), table.velocities_of(two.state)[:, 1::2])


def test_balls_never_leave_their_line() -> None:
    """Whatever the weights: no event across it, and no velocity after an event or a shot."""
    for seed in range(5):
        torch.manual_seed(seed)
        model = EventJump(EventJumpConfig(axes=1))
        positions = 0.2 + 0.6 * torch.rand(50, 2)
        state = model.state_from(positions, 0.1 * torch.rand(50, 2) - 0.05)
        single = state.event[(state.event >= 0) & (state.event < 4)]
        assert bool((single % 2 == 1).all())
        after = model.after_event(torch.rand(50, 2, 2), torch.rand(50, 2, 2), torch.arange(50) % 5)
        assert not after[..., 0].any() and bool(after[..., 1].any())
        shot = model.tick(state, torch.rand(50, 2))
        assert not shot.velocity[:, 0].any() and bool((shot.hidden[:, 0] == 0.5).all())


@pytest.mark.parametrize("axes", [1, 2])
def test_without_actions_nothing_is_learned_of_shots(axes: int) -> None:
    data = make_task(TaskConfig(f"billiards{axes}d", 200))
    model = EventJump(EventJumpConfig(axes=axes, action_size=0, hidden_size=8))
    loss, log = model.loss(sample(model, data))
    assert set(log) == {
        *("single_time", "single_jump", "pair_time", "pair_jump", "pair_meets", "pair_passes")
    }
    torch.testing.assert_close(loss, torch.stack(list(log.values())).sum())


def test_a_batch_that_asks_for_no_meeting_ahead_has_a_loss() -> None:
    data = make_task(TaskConfig("billiards2d", 200))
    model = EventJump(EventJumpConfig(action_size=0, hidden_size=8))
    batch = sample(model, data, 4)
    batch["u"] = torch.zeros_like(batch["u"])
    loss, log = model.loss(batch)
    assert float(log["pair_meets"].detach()) == 0.0 and bool(loss.isfinite())


def test_it_learns_balls_on_a_line() -> None:
    data = make_task(TaskConfig("billiards1d", 1500))
    model = train(EventJumpConfig(axes=1, action_size=0, hidden_size=32), data, 600)
    figures = validate(model, make_task(TaskConfig("billiards1d", 200, split="validation")))
    # Standing still costs 0.1. A ball hits something every 8 frames or so, and there are two.
    assert figures["mse"] < 3e-3
    assert 3.5 < figures["mean_jump"] < 4.5


def test_it_learns_a_table_of_other_physics_than_the_project_s() -> None:
    table = TableConfig(radius=0.07, restitution=0.8, max_impulse=0.9)
    data = make_dataset(DatasetConfig(table=table, num_trajectories=6000, seed=2))
    learned = train(EventJumpConfig(hidden_size=32), data, 1200, 512)
    # From the middle to x = 1 - 0.07 at 0.05 a frame.
    positions, velocities = torch.full((1, 1, 2), 0.5), torch.tensor([[[0.05, 0.0]]])
    time, event = learned.for_balls(1).next_event(positions, velocities)
    assert time.item() == pytest.approx(0.43 / 0.05, rel=5e-3) and event.tolist() == [0]
    before = torch.tensor([[0.93, 0.4]]), torch.tensor([[0.05, 0.02]]), torch.tensor([0])
    after = learned.single_outcome(*before)
    torch.testing.assert_close(after, torch.tensor([[-0.04, 0.02]]), atol=1e-3, rtol=0)
    # Head-on from 0.4 apart, radius 0.07: they meet after 0.26 / 0.08 frames; each of the equal
    # balls then has (1 - e) / 2 of its own and (1 + e) / 2 of the other's velocity.
    positions = torch.tensor([[[0.3, 0.5], [0.7, 0.5]]])
    velocities = torch.tensor([[[0.06, 0.0], [-0.02, 0.0]]])
    time, event = learned.next_event(positions, velocities)
    assert time.item() == pytest.approx(0.26 / 0.08, rel=2e-2) and event.tolist() == [4]
    touching = torch.tensor([[[0.3, 0.5], [0.44, 0.5]]])
    after = learned.after_event(touching, velocities, event)
    expected = torch.tensor([[[0.1 * 0.06 - 0.9 * 0.02, 0.0], [0.9 * 0.06 - 0.1 * 0.02, 0.0]]])
    torch.testing.assert_close(after, expected, atol=2e-3, rtol=0)
    shot = learned.after_shot(torch.tensor([[0.01, -0.05]]), torch.tensor([[0.5, -1.0]]))
    torch.testing.assert_close(shot, torch.tensor([[0.0325, -0.09]]), atol=3e-3, rtol=0)


# -- folded rooms --------------------------------------------------------------------------------


@pytest.mark.parametrize("balls", [2, 4])
def test_only_what_might_meet_need_be_asked(balls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = from_pretrained("fold-billiards2d")
    assert isinstance(model, FoldJump)
    positions, velocities = (part.float() for part in table(3, 400, balls))
    places, ways = (part.view(-1, balls, 2) for part in (positions, velocities))
    events = []
    for few in (0, 10**9):
        monkeypatch.setattr(fold_jump, "_FEW", few)
        events.append(model.for_balls(balls).next_event(places, ways))
    (time, event), (all_time, all_event) = events
    assert torch.equal(event, all_event) and (event >= 0).float().mean() > 0.5
    torch.testing.assert_close(time, all_time, atol=1e-4, rtol=1e-5)


def test_new_weights_are_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_jump, "_FEW", 0)
    model = FoldJump(FoldJumpConfig())
    model.pair_level.skip.bias.data[1] = -1e3  # No pair ever meets.
    positions = torch.tensor([[[0.3, 0.5], [0.7, 0.5]]])
    velocities = torch.tensor([[[0.03, 0.0], [-0.03, 0.0]]])
    assert model.next_event(positions, velocities)[1].item() == -1
    model.load_state_dict(from_pretrained("fold-billiards2d").state_dict())
    time, event = model.next_event(positions, velocities)
    assert event.item() == 4 and time.item() == pytest.approx(0.2 / 0.06, rel=1e-2)


class TruePairs(FoldJump):
    """The true surface and outcome of two balls, so that only the folding is in question."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FoldJumpConfig(**settings))
        self.double()
        with torch.no_grad():
            self.reach.fill_(WALL)

    def _pair_surface(self, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        square = 0.04 - across.square()
        touch = square.clamp_min(0.0).sqrt()
        coming = (square > 0) & (along > -1e-9)
        return along - touch, torch.where(coming, 1.0, -1.0).to(along)

    def pair_outcome(self, offset: Tensor, relative: Tensor) -> Tensor:
        normal = offset / offset.norm(dim=-1, keepdim=True)
        change: Tensor = (relative * normal).sum(dim=-1, keepdim=True) * normal
        return change


class NeverParting(TruePairs):
    """Balls that meet and go on as before."""

    def pair_outcome(self, offset: Tensor, relative: Tensor) -> Tensor:
        return torch.zeros_like(offset)


def test_balls_that_do_not_part_do_not_meet_for_ever() -> None:
    model = NeverParting()
    places = torch.tensor([[0.3, 0.5, 0.7, 0.5]], dtype=torch.float64)
    ways = torch.tensor([[0.03, 0.0, -0.03, 0.0]], dtype=torch.float64)
    assert model.imagine(model.state_from(places, ways), [6.0]).ticks.item() <= 8


def table(seed: int, count: int, balls: int = 2) -> tuple[Tensor, Tensor]:
    """Random positions without overlap, and velocities per frame, (B, 2N) float64."""
    rng = np.random.default_rng(seed)
    positions = np.empty((count, 2 * balls))
    for row in positions:
        while True:
            row[:] = rng.uniform(0.11, 0.89, 2 * balls)
            gaps = [
                math.dist(row[2 * i : 2 * i + 2], row[2 * j : 2 * j + 2])
                for i in range(balls)
                for j in range(i)
            ]
            if all(gap > 0.21 for gap in gaps):
                break
    velocities = rng.normal(0.0, 0.04, positions.shape)
    return torch.from_numpy(positions), torch.from_numpy(velocities)


@pytest.mark.parametrize("balls", [1, 2, 3])
def test_folded_motion_is_the_motion_with_walls(balls: int) -> None:
    model = TruePairs(num_balls=balls)
    positions, velocities = table(1, 200, balls)
    state = model.state_from(positions, velocities)
    times = [0.0, 0.4, 3.0, 7.7, 20.0]
    with torch.no_grad():
        imagined = model.imagine(state, times)
    for k, time in enumerate(times):
        shape = (len(positions), balls, 2)
        true, _ = torch_physics.advance(
            positions.view(shape), velocities.view(shape), time, radius=0.1
        )
        torch.testing.assert_close(imagined.obs[:, k], true.flatten(1), rtol=0.0, atol=1e-6)


def test_walls_cost_no_tick() -> None:
    model = TruePairs()
    simulator = SimulatorModel()
    positions, velocities = table(2, 300)
    with torch.no_grad():
        folded = model.imagine(model.state_from(positions, velocities), [40.0])
        ticked = simulator.imagine(simulator.state_from(positions, velocities), [40.0])
    assert folded.ticks.sum() < 0.5 * ticked.ticks.sum()
    alone = velocities.abs().amax(dim=1) < 0.02  # slow balls that hardly meet
    assert (folded.ticks[alone] <= ticked.ticks[alone]).all()


def test_velocities_are_those_that_are_seen() -> None:
    model = TruePairs(num_balls=1)
    state = model.state_from(
        torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.1, 0.03]]).double()
    )
    with torch.no_grad():
        later = model.imagine(state, [6.0]).state
    torch.testing.assert_close(model.velocities_of(later), torch.tensor([[-0.1, 0.03]]).double())


def test_few_folds_a_jump_change_ticks_and_nothing_else() -> None:
    positions, velocities = table(3, 100)
    narrow, wide = TruePairs(max_folds=1, axis_folds=1), TruePairs()
    with torch.no_grad():
        few = narrow.imagine(narrow.state_from(positions, velocities), [5.0, 15.0])
        many = wide.imagine(wide.state_from(positions, velocities), [5.0, 15.0])
    torch.testing.assert_close(few.obs, many.obs, rtol=0.0, atol=1e-6)
    assert few.ticks.sum() > many.ticks.sum()


def test_it_learns_the_line_and_its_walls_in_seconds() -> None:
    data = make_task(TaskConfig("billiards1d", 1500))
    held_out = make_task(TaskConfig("billiards1d", 200, split="validation"))
    model = train(FoldJumpConfig(axes=1, action_size=0, hidden_size=32), data, 300)
    figures = validate(model, held_out)
    assert figures["mse"] < 5e-4
    assert figures["mean_jump"] > 8.0  # walls and meetings together would allow 4
    assert abs(model.reach.item() - WALL) < 1e-5

"""RelationalJump: what its tiers know, how it reads frames, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jumpy_mbrl.data.recording import Recording
from jumpy_mbrl.data.sampling import StartSampler
from jumpy_mbrl.models import RelationalJump, RelationalJumpConfig, State
from jumpy_mbrl.training.optimizer import Optimizer
from jumpy_mbrl.training.presets import preset
from jumpy_mbrl.training.validation import validate

SMALL = RelationalJumpConfig(3, hidden_size=16, passes=2, event_size=8, latent_size=2, horizon=9)
ENTITIES = replace(SMALL, same_everywhere=False)
FLAT = replace(ENTITIES, num_bodies=1, body_size=6)


def make(config: RelationalJumpConfig = SMALL, seed: int = 0) -> RelationalJump:
    """A model whose every network does something, in double precision."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = RelationalJump(config).double().eval()
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.3 / math.sqrt(weight.shape[-1]))
    return model


def film(rows: int = 2, frames: int = 5, bodies: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    numbers = torch.rand(2, rows, 1, bodies, 2, generator=generator, dtype=torch.float64)
    moves = 0.1 * (numbers[1] - 0.5) * torch.arange(frames).view(1, -1, 1, 1)
    return numbers[0] + moves


def imagine(model: RelationalJump, frames: Tensor) -> Tensor:
    obs = model.imagine(model.observe(frames.flatten(2)), [1.0, 2.5, 7.0]).obs
    bodies: Tensor = obs.unflatten(2, frames.shape[2:])
    return bodies


@pytest.mark.parametrize("config", [SMALL, ENTITIES])
def test_bodies_may_come_in_any_order(config: RelationalJumpConfig) -> None:
    model, frames, order = make(config), film(), torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        imagine(model, frames[:, :, order]), imagine(model, frames)[:, :, order]
    )


def test_a_vector_s_numbers_have_their_places() -> None:
    model, frames = make(FLAT), film()
    turned = imagine(model, frames[:, :, [2, 0, 1]])
    assert not torch.allclose(turned, imagine(model, frames)[:, :, [2, 0, 1]], atol=1e-3)


@pytest.mark.parametrize("tier", ["space", "entities"])
def test_what_bodies_do_to_one_another_looks_the_same_everywhere(tier: str) -> None:
    """After a shift, a turn and a mirroring; what happens to one body is left out of it."""
    model, frames = make(SMALL if tier == "space" else ENTITIES), film()
    if tier == "space":
        own = [model.event.alone[-1]]
        own += [
            part
            for law in (model.reader, model.update, *model.further)
            for part in (law.alone.value, law.alone.skip)
        ]
        for part in own:
            for weight in part.parameters():
                nn.init.zeros_(weight)
    turn = torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    moved, wanted = imagine(model, frames @ turn + 0.3), imagine(model, frames) @ turn + 0.3
    assert torch.allclose(moved, wanted, atol=1e-9) == (tier == "space")
    assert not torch.allclose(wanted - 0.3, frames[:, -1:] @ turn, atol=1e-3), "something happens"


def test_two_bodies_push_each_other_equally_and_oppositely() -> None:
    model = make()
    for law in (model.update, *model.further):
        for part in (law.alone.value, law.alone.skip):
            for weight in part.parameters():
                nn.init.zeros_(weight)
    state = model.observe(film().flatten(2))
    before, after = (model._line_of(s).velocity for s in (state, model.tick(state)))
    torch.testing.assert_close(after.sum(dim=1), before.sum(dim=1))
    assert not torch.allclose(after, before, atol=1e-4), "something happens"


def test_the_risk_of_a_pair_is_that_of_both_bodies() -> None:
    law, numbers = make(SMALL).event, film(frames=2)
    read = numbers[:, 0], numbers[:, 1].unsqueeze(2), torch.zeros(2, 3, 4, dtype=torch.float64)

    def risks(bodies: list[int]) -> Tensor:
        found: Tensor = law(*(part[:, bodies] for part in read))[0]
        return found.squeeze(2)

    alone = torch.cat([risks([body]) for body in range(3)], dim=1)
    one, two, three = (risks(pair) - alone[:, pair] for pair in ([0, 1], [0, 2], [1, 2]))
    assert bool((one > 0.0).all())
    torch.testing.assert_close(one[:, 0], one[:, 1])
    both = torch.stack([one[:, 0] + two[:, 0], one[:, 1] + three[:, 0], two[:, 1] + three[:, 1]], 1)
    torch.testing.assert_close(risks([0, 1, 2]) - alone, both)


@pytest.mark.parametrize("config", [SMALL, ENTITIES])
def test_other_bodies_count_one_by_one(config: RelationalJumpConfig) -> None:
    """A third body that is far away changes little if two alone were learned from."""
    model = make(config)
    two, four = model.for_bodies(2), model.for_bodies(4)
    assert (two.obs_size, four.obs_size) == (4, 8) and two.built_in == model.built_in
    assert imagine(four, film(bodies=4)).shape == (2, 3, 4, 2)
    one = model.for_bodies(1)
    assert imagine(one, film(bodies=1)).shape == (2, 3, 1, 2) and one.built_in == model.built_in
    with pytest.raises(
        ValueError, match="expected num_bodies to be an integer of at least 1, got 0"
    ):
        model.for_bodies(0)
    with pytest.raises(ValueError, match=r"expected actors to be numbers of bodies, 0 to 1"):
        make(replace(config, actors=(2,))).for_bodies(2)
    with pytest.raises(ValueError, match="a model of one plain vector has no other bodies"):
        make(FLAT).for_bodies(3)


def test_an_action_is_for_its_actors() -> None:
    model = make(replace(SMALL, actors=(2, 0), action_size=4))
    given = model._by_body(torch.tensor([[1.0, 2.0, 3.0, 4.0]]).double())
    assert given.tolist() == [[[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]]
    state = model.observe(film().flatten(2))
    nothing, idle = (model.imagine(state, [2.0], a).obs for a in (None, state.obs.new_zeros(2, 4)))
    later = model.tick(state), model.tick(state, state.obs.new_zeros(2, 4))
    assert torch.equal(later[0].velocity, later[1].velocity) and nothing.shape == idle.shape
    pushed = model.tick(state, torch.tensor([[0.0, 0.0, 0.5, 0.1]]).double().expand(2, -1))
    assert not torch.equal(pushed.velocity, later[0].velocity)


def test_a_line_is_straight_in_its_own_coordinates() -> None:
    model = make()
    state = model.tick(model.observe(film().flatten(2)))
    times = torch.linspace(0.0, 1.0, 5).double() * float(state.remaining.min())
    path = torch.stack([model.leap(state, time.expand(2)).hidden for time in times])
    torch.testing.assert_close(
        path.diff(n=2, dim=0), torch.zeros_like(path[2:]), atol=1e-12, rtol=0
    )
    assert torch.equal(state.remaining, state.remaining.round())
    assert bool((state.remaining >= 1).all() and (state.remaining <= 9).all())


def test_where_nothing_happens_velocity_is_the_last_displacement() -> None:
    """A new model knows of nothing that happens: it goes on as it went."""
    with torch.random.fork_rng(devices=[]):
        model = RelationalJump(SMALL).double()
    frames = film(frames=4)
    further = frames[:, -1] + 7.0 * (frames[:, -1] - frames[:, -2])
    torch.testing.assert_close(imagine(model, frames)[:, 2], further)
    assert torch.equal(make().observe(film(frames=9).flatten(2)).hidden, seen_last_four(9))


def test_a_risk_that_was_ruled_out_can_still_be_learned() -> None:
    model = make(replace(SMALL, latent_size=0))
    last: Any = model.event.pair[-1]
    with torch.no_grad():
        last.bias.fill_(-200.0)
    line = model._line_of(model.tick(model.observe(film().flatten(2))))
    hazard = model._hazard(*model._along(line, torch.ones(1, dtype=torch.float64)), line.turn)
    (slope,) = torch.autograd.grad(hazard.sum(), last.bias)
    assert 1e-9 < float(slope) < 1e-4  # of softplus alone it is 1e-87


def seen_last_four(frames: int) -> Tensor:
    state: State = make().observe(film(frames=frames).flatten(2)[:, -4:])
    return state.hidden


# -- learning ------------------------------------------------------------------------------------


def bouncing(n: int = 200, T: int = 20) -> Recording:
    """Two points that bounce between walls at 0 and 1, and do not see one another."""
    generator = torch.Generator().manual_seed(0)
    first, move = torch.rand(2, n, 1, 4, generator=generator)
    free = first + 0.1 * (move - 0.5) * torch.arange(T).view(1, -1, 1)
    obs = 1.0 - (free.remainder(2.0) - 1.0).abs()
    nothing: Any = torch.zeros(n, T, 0).numpy()
    return Recording(obs.numpy(), nothing, torch.zeros(n, T - 1).double().numpy(), 4)


def test_units_are_taken_from_the_data() -> None:
    data = bouncing()
    model = RelationalJump(replace(ENTITIES, num_bodies=2, action_size=0))
    model.calibrate(data)
    obs = torch.from_numpy(data.obs).unflatten(2, (2, 2))
    torch.testing.assert_close(model.center, obs.mean(dim=(0, 1, 2)))
    torch.testing.assert_close(model.scale, obs.std(dim=(0, 1, 2), correction=0))
    torch.testing.assert_close(model.pace, obs.diff(dim=1).square().mean(dim=(0, 1, 2)).sqrt())
    space = RelationalJump(replace(SMALL, num_bodies=2, action_size=0))
    space.calibrate(data)
    assert space.scale[0] == space.scale[1] and space.pace[0] == space.pace[1]


def test_two_starts_in_three_are_where_something_happens() -> None:
    data = bouncing()
    sampler = StartSampler(data, bodies=2, draws=5)
    batch = sampler.sample(900, torch.Generator().manual_seed(1))
    assert batch["u"].shape == (900, 5) and batch["obs"].shape == (900, 20, 4)
    assert int(batch["start"].min()) == 3 and int(batch["start"].max()) <= 18
    bends = batch["obs"].diff(n=2, dim=1).unflatten(2, (2, 2)).abs().amax(3) > 1e-4
    around = (batch["start"][:600, None] + torch.arange(-2, 3)).clamp_max(17)
    one, both = (
        found[torch.arange(600)[:, None], around].any(1) for found in (bends.any(2), bends.all(2))
    )
    assert bool(one.all() and both[300:].all()), "from two frames before the start to two after"
    assert not bool(both[:300].all())
    with pytest.raises(
        ValueError, match="expected sequences of more than 20 frames, the model's w"
    ):
        StartSampler(data, window=20)


def test_bodies_that_lie_still_do_not_make_slowing_down_an_event() -> None:
    """The first of three points slows down evenly, and is turned round at frame 20 of 40."""
    time = torch.arange(40.0)
    way = 0.02 * time - 2e-4 * time.square()
    obs = torch.full((50, 40, 6), 0.5)
    obs[:, :, 0] = torch.where(time > 20.0, 2.0 * way[20] - way, way)
    nothing: Any = np.zeros((50, 40, 0), np.float32)
    data = Recording(obs.numpy(), nothing, np.zeros((50, 39)), 4)
    batch = StartSampler(data, bodies=3).sample(300, torch.Generator().manual_seed(0))
    assert (batch["start"][:100] - 19).abs().max() <= 2


def test_noise_is_on_the_frames_that_are_read_and_on_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, seed = bouncing(), torch.Generator().manual_seed(1)
    batch = StartSampler(data, bodies=2, draws=12, noisy=True).sample(900, seed)
    level = batch["noise"].square().mean(dim=(1, 2)).sqrt()
    assert batch["noise"].shape == (900, 4, 4) and 0.2 < level.median() < 0.3 and level.max() < 1.6
    plain = StartSampler(data, bodies=2, draws=12).sample(900, torch.Generator().manual_seed(1))
    assert all(torch.equal(plain[name], batch[name]) for name in plain)
    config = replace(SMALL, num_bodies=2, action_size=0, chain=3)
    model, noisy = make(config).float(), make(replace(config, noise=0.5)).float()
    losses = [m.loss(batch)[0].item() for m in (model, noisy)]
    assert losses[1] > losses[0]
    moved = {**batch, "noise": torch.zeros_like(batch["noise"])}
    assert noisy.loss(moved)[0].item() == losses[0]
    with pytest.raises(ValueError, match="noise"):
        replace(config, noise=-0.1)
    begun, tick = list[Tensor](), noisy._tick

    def ticked(now: Tensor, *rest: Any) -> Any:
        begun.append(now)
        return tick(now, *rest)

    monkeypatch.setattr(noisy, "_tick", ticked)
    noisy.loss(batch)
    real = batch["obs"][torch.arange(900), batch["start"]].view_as(begun[0])
    moved_by = 0.5 * noisy.pace * batch["noise"][:, -1].view_as(real)
    torch.testing.assert_close(begun[0], real + moved_by)


@pytest.mark.parametrize("config", [SMALL, ENTITIES], ids=["space", "entities"])
def test_it_learns_walls(config: RelationalJumpConfig) -> None:
    data = bouncing()
    sized = replace(config, num_bodies=2, action_size=0, latent_size=0, chain=2, hidden_size=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = RelationalJump(sized)
    model.calibrate(data)
    sampler, generator = model.sampler(data), torch.Generator().manual_seed(0)
    optimizer = Optimizer(model, "muon", 0.01, 0.0)
    before = validate(model, data)
    for step in range(150):
        batch = {**sampler.sample(64, generator), "progress": torch.tensor(step / 150)}
        loss, _ = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(0.01 * (1.0 - step / 150))
    after = validate(model, data)
    assert after["mse"] < 0.8 * before["mse"] and after["mean_jump"] > 2.0, (before, after)


def test_ticks_after_a_line_that_led_far_off_teach_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At frame 5 a point is elsewhere, and then goes back and forth."""
    with torch.random.fork_rng(devices=[]):
        model = RelationalJump(replace(SMALL, num_bodies=2, action_size=0, chain=3))
    obs = (0.01 * torch.arange(12.0)).view(1, -1, 1).repeat(2, 1, 4)
    obs[:, 5::2, 0] += 0.9
    obs[1, 7:, 0] = 0.3
    batch = {"obs": obs, "action": obs[..., :0], "length": torch.tensor([12, 12])}
    batch |= {"start": torch.tensor([3, 3]), "u": torch.full((2, 12), 0.9)}
    one, other = ({name: part[b : b + 1] for name, part in batch.items()} for b in range(2))
    assert torch.equal(model.loss(one)[0], model.loss(other)[0])
    monkeypatch.setattr("jumpy_mbrl.models.relational_jump._LOST", 1e9)
    assert not torch.equal(model.loss(one)[0], model.loss(other)[0])


def test_the_presets_are_the_tiers() -> None:
    tiers: list[Any] = [preset(name).model for name in ("flat-jump", "entities-jump", "space-jump")]
    assert [model.num_bodies for model in tiers] == [1, 2, 2]
    assert [model.same_everywhere for model in tiers] == [False, False, True]


def test_one_frame_may_say_all() -> None:
    model = make(replace(FLAT, window=1, latent_size=0))
    frame = film()[:, :1].flatten(2)
    state = model.observe(frame)
    assert model.min_frames == 1 and not state.remaining.any()
    torch.testing.assert_close(state.obs, frame[:, 0])
    assert model.imagine(state, [1.0, 5.0]).obs.isfinite().all()

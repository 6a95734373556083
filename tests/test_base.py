"""States, predictions, and the checks and bookkeeping that every world model inherits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from jumpy_mbrl.models.base import Imagined, State, WorldModel, check_frames, check_times


@dataclass(frozen=True)
class MarkedState(State):
    """A state with one more field."""

    mark: Tensor


def make_state(batch: int = 4) -> MarkedState:
    rows = torch.arange(batch, dtype=torch.float32)
    return MarkedState(
        hidden=rows.unsqueeze(1) * torch.ones(3),
        velocity=-rows.unsqueeze(1) * torch.ones(3),
        remaining=rows,
        obs=rows.unsqueeze(1) * torch.ones(2),
        mark=rows.long() * 10,
    )


class Drift(WorldModel):
    """Moves by one a frame, plus an action at once; ticks at every action. Logs its rollouts."""

    obs_size = 1
    action_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[list[float], float, bool]] = []

    def initial_state(self, batch_size: int) -> State:
        zeros = torch.zeros(batch_size, 1)
        return State(zeros, zeros + 1.0, torch.full((batch_size,), torch.inf), zeros)

    def observe(self, obs: Tensor, action: Tensor | None = None) -> State:
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def _rollout(self, state: State, times: Tensor, end: float, action: Tensor | None) -> Imagined:
        self.calls.append((times.tolist(), end, action is not None))
        start = state.hidden if action is None else state.hidden + action
        width = 0 if action is None else 1
        final = State(start + end, state.velocity, state.remaining, start + end)
        obs = start.unsqueeze(1) + times.view(1, -1, 1)
        return Imagined(obs, torch.zeros(state.batch_size, width), final)


# -- State -----------------------------------------------------------------------------------


def test_state_rows_are_chosen_in_every_field() -> None:
    state = make_state()
    for rows in (slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True, False])):
        part = state[rows]
        assert isinstance(part, MarkedState)
        assert part.batch_size == 2
        assert part.mark.tolist() == [10, 20]
        assert part.hidden[:, 0].tolist() == [1.0, 2.0]


def test_state_repeat_keeps_copies_together() -> None:
    assert make_state(2).repeat(3).mark.tolist() == [0, 0, 0, 10, 10, 10]


def test_state_cat_and_rows_undo_each_other() -> None:
    state = make_state()
    joined = MarkedState.cat([state[:1], state[1:]])
    assert isinstance(joined, MarkedState)
    assert torch.equal(joined.mark, state.mark)
    assert torch.equal(joined.velocity, state.velocity)


def test_update_rows_replaces_only_the_named_rows_and_keeps_the_old_state() -> None:
    state = make_state()
    new = state.update_rows(torch.tensor([3, 0]), state[torch.tensor([1, 2])])
    assert new.mark.tolist() == [20, 10, 20, 10]
    assert new.remaining.tolist() == [2.0, 1.0, 2.0, 1.0]
    assert state.mark.tolist() == [0, 10, 20, 30]


def test_update_rows_passes_gradients_to_both() -> None:
    old = make_state().map(lambda t: t.double())
    hidden = torch.ones(4, 3, requires_grad=True)
    other = torch.ones(1, 3, requires_grad=True)
    state = State(hidden, old.velocity, old.remaining, old.obs)
    part = State(other, old.velocity[:1], old.remaining[:1], old.obs[:1])
    state.update_rows(torch.tensor([2]), part).hidden.sum().backward()
    assert hidden.grad is not None and other.grad is not None
    assert hidden.grad[:, 0].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert other.grad.tolist() == [[1.0, 1.0, 1.0]]


def test_map_is_applied_to_every_tensor() -> None:
    state = make_state().map(lambda tensor: tensor + 1)
    assert state.mark.tolist() == [1, 11, 21, 31]
    assert state.obs[0].tolist() == [1.0, 1.0]


# -- Imagined --------------------------------------------------------------------------------


def test_a_line_that_was_there_before_the_first_tick_counts() -> None:
    inf = torch.inf
    times = torch.tensor([[0.0, 2.0, 5.0], [0.5, 2.0, inf], [inf, inf, inf], [0.0, inf, inf]])
    state = make_state()
    assert Imagined(state.obs.unsqueeze(1), times, state).lines().tolist() == [3, 3, 1, 1]
    later = Imagined(state.obs.unsqueeze(1), times + 7.0, state)
    assert later.lines(7.0).tolist() == [3, 3, 1, 1]
    assert Imagined(state.obs.unsqueeze(1), times[:, :0], state).lines().tolist() == [1, 1, 1, 1]


def test_ticks_from_an_end_on_are_left_out() -> None:
    times = torch.tensor([[0.0, 2.0, 5.0], [0.5, 2.0, torch.inf], [1.0, 2.0, 3.0]])
    whole = Imagined(torch.zeros(3, 1, 2), times, make_state(3))
    found = whole.until(torch.tensor([5, 9, 0]))
    inf = torch.inf
    assert found.tick_times.tolist() == [[0.0, 2.0, inf], [0.5, 2.0, inf], [inf, inf, inf]]
    assert found.ticks.tolist() == [2, 2, 0] and whole.ticks.tolist() == [3, 2, 3]


@pytest.mark.parametrize("actions", [None, [4.0]])
def test_now_is_what_the_state_holds(actions: list[float] | None) -> None:
    """Even where the latent, as here, decodes to something else."""
    model = Drift()
    state = replace(model.initial_state(2), obs=torch.tensor([[0.3], [0.4]]))
    action = None if actions is None else torch.ones(2, 1, 1)
    obs = model.imagine(state, [0.0, 0.0, 1.0], action, actions or [0.0]).obs
    assert obs[..., 0].tolist() == [
        [pytest.approx(0.3)] * 2 + [1.0],
        [pytest.approx(0.4)] * 2 + [1.0],
    ]


def test_an_action_now_is_seen_now() -> None:
    model = Drift()
    obs = model.imagine(model.initial_state(1), [0.0, 1.0], torch.ones(1, 1)).obs
    assert obs.flatten().tolist() == [1.0, 2.0]


def test_imagined_counts_ticks_and_measures_jumps() -> None:
    inf = torch.inf
    times = torch.tensor([[0.0, 1.5, 4.0], [2.0, inf, inf], [inf, inf, inf]])
    imagined = Imagined(torch.zeros(3, 1, 1), times, make_state(3))
    assert imagined.ticks.tolist() == [3, 1, 0]
    assert imagined.durations.tolist() == [[1.5, 2.5], [inf, inf], [inf, inf]]


# -- imagine ---------------------------------------------------------------------------------


def test_action_now_is_one_rollout() -> None:
    model = Drift()
    imagined = model.imagine(model.initial_state(2), [0.5, 2.0], torch.tensor([[0.0], [3.0]]))
    assert model.calls == [([0.5, 2.0], 2.0, True)]
    assert imagined.obs[:, :, 0].tolist() == [[0.5, 2.0], [3.5, 5.0]]


def test_actions_later_cut_the_rollout_into_pieces() -> None:
    model = Drift()
    actions = torch.tensor([[[10.0], [100.0]]])
    imagined = model.imagine(model.initial_state(1), [0.0, 1.0, 2.0, 3.5], actions, [1.0, 3.0])
    assert model.calls == [
        ([0.0], 1.0, False),
        ([0.0, 1.0], 2.0, True),
        ([0.5], 0.5, True),
    ]
    assert imagined.obs[0, :, 0].tolist() == [0.0, 11.0, 12.0, 113.5]
    assert imagined.tick_times.tolist() == [[1.0, 3.0]]
    assert imagined.state.hidden.item() == pytest.approx(113.5)


def test_actions_after_the_last_query_are_not_played() -> None:
    model = Drift()
    imagined = model.imagine(model.initial_state(1), [1.0], torch.ones(1, 2, 1), [0.5, 2.0])
    assert imagined.ticks.tolist() == [1]
    assert imagined.state.hidden.item() == pytest.approx(2.0)


def test_action_before_any_query_counts() -> None:
    model = Drift()
    imagined = model.imagine(model.initial_state(1), [2.0], torch.ones(1, 1, 1), [0.5])
    assert imagined.obs.item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "non-empty vector"),
        ([[1.0]], r"non-empty vector \(K,\), got shape \(1, 1\)"),
        ([-1.0, 0.0], "not lie before the state's moment"),
        ([0.0, float("nan")], "must be finite"),
        ([0.0, float("inf")], "must be finite"),
        ([2.0, 1.0], r"ascending order, got \[2.0, 1.0\]"),
    ],
)
def test_bad_times_are_refused(times: list[float], message: str) -> None:
    model = Drift()
    with pytest.raises(ValueError, match=message):
        model.imagine(model.initial_state(1), torch.tensor(times))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 1, 2), (2,), (2, 2, 1)])
def test_action_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = Drift()
    with pytest.raises(ValueError, match=r"action must have shape \(2, 1, 1\)"):
        model.imagine(model.initial_state(2), [1.0], torch.zeros(shape))


@pytest.mark.parametrize("action_times", [[1.0, 0.5], [-1.0, 0.5]])
def test_bad_action_times_are_refused(action_times: list[float]) -> None:
    model = Drift()
    with pytest.raises(ValueError, match="times must"):
        model.imagine(model.initial_state(1), [2.0], torch.zeros(1, 2, 1), action_times)


def test_actions_without_times_are_refused() -> None:
    model = Drift()
    with pytest.raises(ValueError, match="a time for each action, got none"):
        model.imagine(model.initial_state(1), [2.0], torch.zeros(1, 0, 1), [])


def test_times_keep_the_state_s_precision() -> None:
    model = Drift()
    state = model.initial_state(1).map(lambda tensor: tensor.double())
    assert model.imagine(state, [0.1]).obs.item() == 0.1


# -- checks ----------------------------------------------------------------------------------


def test_check_frames_names_the_fault() -> None:
    check_frames(torch.zeros(2, 3, 4), obs_size=4, min_frames=3)
    with pytest.raises(ValueError, match=r"shape \(B, T, 4\), got \(2, 3, 6\)"):
        check_frames(torch.zeros(2, 3, 6), obs_size=4, min_frames=1)
    with pytest.raises(ValueError, match=r"shape \(B, T, 4\), got \(3, 4\)"):
        check_frames(torch.zeros(3, 4), obs_size=4, min_frames=1)
    with pytest.raises(ValueError, match=r"floating type, got torch.uint8.*divide"):
        check_frames(torch.zeros(2, 3, 4, dtype=torch.uint8), obs_size=4, min_frames=3)
    with pytest.raises(TypeError, match=r"torch.Tensor, got ndarray"):
        check_frames(torch.zeros(2, 3, 4).numpy(), obs_size=4, min_frames=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 4 frames, got 3"):
        check_frames(torch.zeros(2, 3, 4), obs_size=4, min_frames=4)
    frames = torch.zeros(3, 2, 4)
    frames[1, 0, 2] = torch.nan
    frames[2, 1, 0] = torch.inf
    with pytest.raises(ValueError, match=r"NaN or infinity in rows \[1, 2\]"):
        check_frames(frames, obs_size=4, min_frames=2)


def test_check_times_accepts_repeated_times() -> None:
    check_times(torch.tensor([0.0, 0.0, 1.0, 1.0]))

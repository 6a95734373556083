"""What planners share: a search finds good shots, a stress test chooses the most robust of them.

A planner sees a world model and an objective, and nothing of billiards.

Letters: B episodes, S shots of an episode, A action size, H hidden size, M models.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.agents.base import batch_of_frames
from jumpy_mbrl.agents.planning.budget import Budget, Turns
from jumpy_mbrl.agents.planning.episodes import Episodes, usable
from jumpy_mbrl.agents.planning.points import normal_spread
from jumpy_mbrl.arrays import as_array, as_tensor
from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.devices import any_device, cpu_threads, warn_of_fighting_threads
from jumpy_mbrl.models.base import State, WorldModel, like_of
from jumpy_mbrl.models.bodies.state_estimation import bounded
from jumpy_mbrl.objectives import Objective, aimed
from jumpy_mbrl.processes import check_at_once

Bound = float | tuple[float, ...]

_SEEING = 0.5
"""Largest share of a budget for what models search for in the frames."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What every planner can be told.

    Attributes:
        finalists: how many shots are stress-tested; 0 picks the best score without a test.
        perturbations: rollouts of each finalist with slightly other shots, states and models. An
            ensemble shares them: each of M models plays every M-th.
        action_noise: standard deviation of those other shots, in units of the action range's
            half-width.
        state_noise: standard deviation of what is added to the latents that those rollouts start
            from, in the model's own units.
        search_ensemble: search by the mean score of all models of an ensemble too, and not only
            test with them; each of M models then costs as much as the first.
        action_low: least action: a number, or one for each of the A entries.
        action_high: greatest action, likewise.
        budget_ms: milliseconds to plan one episode in; a batch of B has B times as much. The
            search then goes on for as long as it may rather than as far as the config says, and
            finds other shots on other machines, at other times and in other batches. What the
            model searches for in the frames is bounded too, to half of the time. However little it
            is, there is a shot. None: as long as it takes.
        rollouts_at_once: bound on memory; larger batches are worked off in parts.
        threads: CPU threads of torch to plan with. Meanwhile all of the process has so many. 0
            leaves them as they are.
        seed: of all that is drawn.
    """

    finalists: int = 8
    perturbations: int = 16
    action_noise: float = 0.01
    state_noise: float = 0.0
    search_ensemble: bool = False
    action_low: Bound = -1.0
    action_high: Bound = 1.0
    budget_ms: float | None = None
    rollouts_at_once: int = 32_768
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_at_least(1, "rollouts_at_once")
        self._check_at_least(0, "finalists", "perturbations", "action_noise", "state_noise")
        check_at_once("threads", self.threads)
        if self.finalists and not self.perturbations:
            raise ValueError("finalists need perturbations > 0; set finalists=0 for no stress test")
        if self.budget_ms is not None and not 0 < self.budget_ms < float("inf"):
            raise ValueError(
                f"budget_ms must be positive and finite, or None for no bound, got {self.budget_ms}"
            )

    def _check_at_least(self, least: int, *names: str) -> None:
        """Raises ``ValueError`` for a setting below ``least``, or not a number."""
        wanted = f"be at least {least}" if least else "not be negative"
        for name in names:
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must {wanted}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Plan:
    """Chosen shots.

    Attributes:
        action: (B, A), within the bounds.
        score: the objective's score of the imagined shot, (B,).
        belief: fraction of the perturbed rollouts that succeed, (B,); without a stress test 1 or 0.
        ticks: world-model ticks of the imagined shot, (B,).
    """

    action: Tensor
    score: Tensor
    belief: Tensor
    ticks: Tensor

    def update_rows(self, rows: Tensor, other: Plan) -> Plan:
        """This plan with the rows numbered ``rows`` (int64) replaced by those of ``other``."""
        pairs = zip(self._columns(), other._columns(), strict=True)
        return Plan(*(mine.index_copy(0, rows, theirs) for mine, theirs in pairs))

    @classmethod
    def cat(cls, plans: Sequence[Plan]) -> Plan:
        """The plans one after the other."""
        columns = zip(*(plan._columns() for plan in plans), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def _columns(self) -> tuple[Tensor, ...]:
        return self.action, self.score, self.belief, self.ticks


ConfigT = TypeVar("ConfigT", bound=SearchConfig)


class Planner(ABC, Generic[ConfigT]):
    """An agent that tries shots in the imagination of a world model.

    ``predict`` is a function of its input alone: the same frames give the same shot, whatever
    else is in the batch (unless there is a budget, see ``SearchConfig``).

    Args:
        model: any world model with actions.
        objective: what to reach.
        config: how much to search.
        oracle: marks an agent that is meant to be given the true state.
        checkpoint: the name or folder that the model came from, for the record.
        device: where to plan, any device of torch, as text or a ``torch.device``. Models are not
            moved: their weights have to be there already. By default where they are.
        ensemble: further models of the same world, which take part in the stress test and, with
            ``search_ensemble``, in the search.
        clock: the time in seconds, by which a budget is kept.

    Raises:
        ValueError: for a model without actions, bounds that leave no room for any, or an ensemble
            of models of other sizes or types, one that takes part in nothing, or that is larger
            than the perturbations of the stress test; for a device that is unknown, missing, or not
            that of the weights.
    """

    config_class: type[ConfigT]

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        config: ConfigT | None = None,
        oracle: bool = False,
        checkpoint: str | None = None,
        device: torch.device | str | None = None,
        ensemble: Sequence[WorldModel] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model = model
        self.objective = objective
        self.config: ConfigT = config or self.config_class()
        self.oracle = oracle
        self.checkpoint = checkpoint
        self.device = like_of(model).device if device is None else any_device(device)
        self.ensemble = tuple(ensemble)
        self._clock = clock
        self._check_models()
        low, high = self.config.action_low, self.config.action_high
        self._low, self._high = action_bounds(low, high, model.action_size)
        self._action_noise = self.config.action_noise * normal_spread(
            self.config.perturbations, model.action_size, self.config.seed + 1
        )

    def predict(
        self,
        observation: NDArray[np.float32],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """See ``Agent.predict``. ``state``: start from this model state instead of the frames.

        Flattened frames, as the environments of whole shots show them, will do. Where they show a
        target, and the objective can be aimed (``aimed_at``), it is aimed there.

        Raises:
            ValueError: frames of a wrong shape or not finite, a state that ``plan`` refuses, or no
                target where each episode has its own.
        """
        shown = getattr(self.objective, "shown", 0)
        frames, single = batch_of_frames(observation, self.model.obs_size, shown=shown)
        action = as_array(self.plan(frames, state).action).astype(np.float32)
        return (action[0] if single else action), None

    @torch.inference_mode(False)  # Within a caller's inference mode there would be no gradients.
    @torch.no_grad()
    def plan(
        self,
        frames: NDArray[np.float32] | Tensor,
        state: State | None = None,
        objective: Objective | None = None,
        taken: NDArray[np.float32] | Tensor | None = None,
    ) -> Plan:
        """Plans, and tells what it believes.

        Args:
            frames: (B, T, D), at least one episode, or with the target behind the D numbers of
                each frame, as ``predict`` takes them. They become numbers of the type of the
                model's weights. Bytes are pictures, 0 to 255 meaning 0 to 1; all other numbers are
                taken as they are.
            state: start from this state of the model instead of the frames.
            objective: what to reach this time, in place of the planner's own.
            taken: the actions taken at the frames, (B, T, A), the last of which is ignored; by
                default none were.

        Raises:
            ValueError: for no episode; for a state of another batch size, or given to an ensemble;
                for an objective that returns scores of a wrong shape.
        """
        started = self._now()
        with cpu_threads(self.config.threads) if self.config.threads else nullcontext():
            if self.device.type == "cpu":
                warn_of_fighting_threads()
            return self._plan(self._as_read(frames), state, objective, taken, started)

    def _plan(
        self,
        seen: Tensor,
        state: State | None,
        objective: Objective | None,
        taken: Any,
        started: float,
    ) -> Plan:
        seen, own = aimed(seen, self.model.obs_size, self.objective)
        B = len(seen)
        states = self._observe(seen, state, taken, self._budget(started, B))
        # The search keeps its precision where the model has a lower one.
        kind = torch.promote_types(states[0].hidden.dtype, torch.float32)
        low, high = (bound.to(states[0].hidden.device, kind) for bound in (self._low, self._high))
        models = (self.model, *self.ensemble)
        whole = Episodes(models, states, objective or own, low, high)
        most = max(self._widest(), self.config.finalists * self.config.perturbations)
        rows = max(1, self.config.rollouts_at_once // most)
        plans = []
        for first in range(0, B, rows):
            last = min(first + rows, B)
            plans.append(self._plan_part(whole[first:last], self._budget(started, last)))
        return Plan.cat(plans)

    @abstractmethod
    def _widest(self) -> int:
        """The most rollouts of one episode that the search makes at once."""

    @abstractmethod
    def _search(self, episodes: Episodes, budget: Budget | None) -> tuple[Tensor, Tensor]:
        """Good shots (B, S, A) in the unit box, best first, and their scores (B, S)."""

    def _score(self, episodes: Episodes, shots: Tensor) -> Tensor:
        """Scores (B, S) of shots (B, S, A) while searching."""
        if not self.config.search_ensemble:
            return episodes.score(shots)
        scores = [episodes.score(shots, member) for member in range(len(episodes.models))]
        return torch.stack(scores).mean(dim=0)

    def _plan_part(self, episodes: Episodes, budget: Budget | None) -> Plan:
        return self._choose(episodes, *self._search(episodes, budget), budget)

    def _choose(
        self, episodes: Episodes, shots: Tensor, scores: Tensor, budget: Budget | None
    ) -> Plan:
        """Of shots (B, S, A) with scores (B, S), the one that stands the stress test best."""
        belief, rank = (scores > 0).to(scores.dtype), scores
        finalists = self._affordable_finalists(episodes, budget)
        if finalists:
            shots, scores = best(shots, scores, finalists)
            belief, rank = self._stress_test(episodes, shots)
        chosen = rank.argmax(dim=1, keepdim=True)
        action = episodes.actions(take(shots, chosen).squeeze(1))
        # Scaling may round beyond the bounds.
        action = action.clamp(episodes.low, episodes.high)
        score, belief = scores.gather(1, chosen)[:, 0], belief.gather(1, chosen)[:, 0]
        return Plan(action, score, belief, episodes.ticks(action))

    def _stress_test(self, episodes: Episodes, shots: Tensor) -> tuple[Tensor, Tensor]:
        """Belief (B, S): how many perturbed rollouts succeed; and a rank that breaks ties."""
        B, S, A = shots.shape
        M = len(episodes.models)
        parts = []
        for member in range(M):
            others = shots.unsqueeze(2) + self._action_noise[member::M].to(shots)
            noise = self._state_noise(episodes.states[member])
            scores = episodes.score(
                others.clamp(-1.0, 1.0).view(B, -1, A),
                member,
                None if noise is None else noise[member::M].repeat(S, 1),
            )
            parts.append(scores.view(B, S, -1))
        scores = torch.cat(parts, dim=-1)
        belief = (scores > 0).to(scores.dtype).mean(dim=-1)
        return belief, belief + 0.1 * scores.clamp(-1.0, 1.0).mean(dim=-1)

    def _state_noise(self, state: State) -> Tensor | None:
        """What the perturbations add to a model's latents, (perturbations, H)."""
        if not self.config.state_noise:
            return None
        generator = torch.Generator("cpu").manual_seed(self.config.seed)
        shape = (self.config.perturbations, state.hidden.shape[1])
        noise = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        return self.config.state_noise * noise.to(state.hidden)

    # -- time ------------------------------------------------------------------------------

    def _rounds(
        self, sizes: Iterable[int], episodes: Episodes, budget: Budget | None, share: float = 1.0
    ) -> Iterator[int]:
        """Sizes of rounds of the search (rollouts per episode) for as long as there is time.

        The first is always made; a later one for which there is no time is halved until there is.
        Each is timed while the caller makes it.

        Args:
            sizes: wanted.
            episodes: for which they are.
            budget: the time.
            share: of it that may be used, less what the stress test will take.
        """
        for number, size in enumerate(sizes):
            if budget is None:
                yield size
                continue
            keep = budget.cost(self._test_rollouts(episodes))
            while number and not budget.fits(budget.cost(size * len(episodes)), share, keep):
                size //= 2
                if not size:
                    return
            with budget.cost.timing(size * len(episodes)):
                yield size

    def _affordable_finalists(self, episodes: Episodes, budget: Budget | None) -> int:
        """How many finalists there is time to test."""
        if budget is None:
            return self.config.finalists
        for count in range(self.config.finalists, 0, -1):
            if budget.fits(budget.cost(self._test_rollouts(episodes, count))):
                return count
        return 0

    def _test_rollouts(self, episodes: Episodes, finalists: int | None = None) -> int:
        """Rollouts of a stress test, with the last one that counts the ticks."""
        count = self.config.finalists if finalists is None else finalists
        return len(episodes) * (count * self.config.perturbations + 1)

    def _budget(self, started: float, episodes: int) -> Budget | None:
        """For a part of a batch with which so many of its episodes will be done."""
        if self.config.budget_ms is None:
            return None
        return Budget(started + 1e-3 * self.config.budget_ms * episodes, self._now)

    def _now(self) -> float:
        if self.config.budget_ms is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()

    # -- what is given -----------------------------------------------------------------------

    @torch.no_grad()
    def observe(self, frames: NDArray[np.float32] | Tensor) -> State:
        """What the planner's model makes of frames (B, T, D), which are read as by ``plan``."""
        seen, _ = aimed(self._as_read(frames), self.model.obs_size, self.objective)
        return self.model.observe(seen)

    def _as_read(self, frames: NDArray[Any] | Tensor) -> Tensor:
        """Frames of the model's own type, on its device."""
        frames = as_frames(frames).to(self.device)
        if frames.shape[:1] == (0,):
            raise ValueError(
                f"frames must be of at least one episode, got shape {tuple(frames.shape)}; do not "
                "call the planner where there is nothing to plan"
            )
        return usable(frames.to(_type_of(self.model) or frames.dtype))

    def _observe(
        self, frames: Tensor, state: State | None, taken: Any, budget: Budget | None
    ) -> tuple[State, ...]:
        """The state of every model."""
        if state is None:
            seen = [frames] if taken is None else [frames, usable(as_tensor(taken).to(frames))]
            models, states = (self.model, *self.ensemble), list[State]()
            for number, model in enumerate(models, start=1):
                share = _SEEING * number / len(models)
                with nullcontext() if budget is None else bounded(Turns(budget, share)):
                    states.append(model.observe(*seen))
            return tuple(states)
        if self.ensemble:
            raise ValueError(
                "a state belongs to one model, but this planner has an ensemble of "
                f"{len(self.ensemble) + 1}; let it plan from frames, or make it without ensemble"
            )
        if state.batch_size != len(frames):
            raise ValueError(
                f"state must have one row for each of the {len(frames)} episodes, "
                f"got {state.batch_size}"
            )
        return (state.map(usable),)

    def _check_models(self) -> None:
        model = self.model
        if model.action_size < 1:
            raise ValueError(
                f"a planner needs a model with actions, got {type(model).__name__} with "
                f"action_size={model.action_size}"
            )
        sizes = (model.obs_size, model.action_size)
        for number, member in enumerate(self.ensemble):
            if (member.obs_size, member.action_size) != sizes:
                raise ValueError(
                    f"models of an ensemble must have the obs_size and action_size of the first, "
                    f"{sizes}, got {(member.obs_size, member.action_size)} in ensemble[{number}]"
                )
            wanted, found = _type_of(model), _type_of(member)
            if wanted is not None and found not in (None, wanted):
                raise ValueError(
                    f"models of an ensemble must have weights of the type of the first, {wanted}, "
                    f"got {found} in ensemble[{number}]; convert it with .to({wanted})"
                )
        self._check_places()
        if self.ensemble and not (self.config.finalists or self.config.search_ensemble):
            raise ValueError(
                "an ensemble takes part in the stress test alone, got finalists=0; "
                "set finalists > 0, or leave the ensemble out, or set search_ensemble=True"
            )
        if (
            self.ensemble
            and self.config.finalists
            and self.config.perturbations <= len(self.ensemble)
        ):
            raise ValueError(
                f"perturbations must be at least {len(self.ensemble) + 1}, one for each model of "
                f"the ensemble, got {self.config.perturbations}"
            )

    def _check_places(self) -> None:
        wanted = torch.empty(0, device=self.device).device  # "cuda" is one of several by number.
        for model in (self.model, *self.ensemble):
            for weight in model.parameters():
                if weight.device != wanted:
                    raise ValueError(
                        f"the weights of the {type(model).__name__} must be on {wanted}, where the "
                        f"planner is to plan, got {weight.device}; move it with model.to, or leave "
                        "the device to the planner"
                    )


def _type_of(model: WorldModel) -> torch.dtype | None:
    """That of a model's weights; None if it has none."""
    return next((part.dtype for part in model.parameters() if part.is_floating_point()), None)


def take(shots: Tensor, index: Tensor) -> Tensor:
    """The shots (B, S, A) numbered ``index`` (B, n) of each episode."""
    return shots.gather(1, index.unsqueeze(-1).expand(-1, -1, shots.shape[-1]))


def best(shots: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best of each episode's shots (B, S, A) with scores (B, S), best first."""
    top = scores.topk(min(count, scores.shape[1]), dim=1)
    return take(shots, top.indices), top.values


def action_bounds(low: Bound, high: Bound, size: int) -> tuple[Tensor, Tensor]:
    """Least and greatest action, (A,) each, of a number or one for each of the A entries.

    Raises:
        ValueError: for as many as there are not entries, NaN or infinity, or no room between them.
    """
    bounds = []
    for name, given in {"action_low": low, "action_high": high}.items():
        bound = as_tensor(given, dtype=torch.float32)
        if bound.shape not in ((), (size,)) or not bool(bound.isfinite().all()):
            raise ValueError(
                f"{name} must be a finite number, or one for each of the {size} entries of an "
                f"action, got {given}"
            )
        bounds.append(bound.expand(size).clone())
    least, greatest = bounds
    if not bool((least < greatest).all()):
        raise ValueError(f"action_low must lie below action_high, got {low} and {high}")
    return least, greatest

"""Planners: agents that search by imagination, and choose what succeeds most surely.

A planner sees a world model and an objective, and nothing of billiards. ``Planner.plan`` is read
from top to bottom: states from frames, actions from a search, one of them by a robust selection.

Letters: B episodes, T frames, D observation size, S actions of an episode, A action size.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpy_mbrl.agents.base import batch_of_frames, batch_of_pictures
from jumpy_mbrl.agents.planning import optimizers, robust
from jumpy_mbrl.agents.planning.budget import Budget, Deadline
from jumpy_mbrl.agents.planning.config import CEMConfig, PlannerConfig, SearchConfig
from jumpy_mbrl.agents.planning.optimizers import Found, Optimizer, Score
from jumpy_mbrl.arrays import as_array, as_tensor
from jumpy_mbrl.data.loading import as_frames
from jumpy_mbrl.devices import any_device, cpu_threads, warn_of_fighting_threads
from jumpy_mbrl.models.base import State, WorldModel, like_of
from jumpy_mbrl.models.bodies.state_estimation import bounded
from jumpy_mbrl.objectives import Objective, action_bounds, aimed, scores_of

_SEEING = 0.5
"""Largest share of a budget for what models search for in the frames."""


@dataclass(frozen=True)
class Plan:
    """Chosen actions.

    Attributes:
        action: (B, A), within the bounds.
        score: the objective's score of the imagined future, (B,).
        belief: fraction of the perturbed rollouts that succeed, (B,); without a robust selection 1
            or 0.
        ticks: world-model ticks of the imagined future, (B,).
    """

    action: Tensor
    score: Tensor
    belief: Tensor
    ticks: Tensor

    def update_rows(self, rows: Tensor, other: Plan) -> Plan:
        """This plan with the rows numbered ``rows`` (int64) replaced by those of ``other``."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Plan(*(mine.index_copy(0, rows, its) for mine, its in pairs))

    @classmethod
    def cat(cls, plans: Sequence[Plan]) -> Plan:
        """The plans one after the other."""
        return cls(*map(torch.cat, zip(*(vars(plan).values() for plan in plans), strict=True)))


ConfigT = TypeVar("ConfigT", bound=SearchConfig)


class Planner(ABC, Generic[ConfigT]):
    """An agent that tries actions in the imagination of a world model.

    ``predict`` is a function of its input alone: the same frames give the same action, whatever
    else is in the batch (unless there is a budget, see ``SearchConfig``). `ValueError` for a model
    without actions, bounds that leave no room for any, an ensemble of models of other sizes or
    types, one that takes part in nothing, or that is larger than the perturbations; and for a
    device that is unknown, missing, or not that of the weights.

    Args:
        model: any world model with actions.
        objective: what to reach.
        config: how much to search.
        oracle: marks an agent that is meant to be given the true state.
        checkpoint: the name or folder that the model came from, for the record.
        device: where to plan, any device of torch, as text or a ``torch.device``. Models are not
            moved: their weights have to be there already. By default where they are.
        ensemble: further models of the same world, which take part in the robust selection and,
            with ``search_ensemble``, in the search.
        clock: the time in seconds, by which a budget is kept.
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
        self.picture: tuple[int, int, int] | None = getattr(model, "picture", None)
        self.objective = objective
        self.config: ConfigT = config or self.config_class()
        self.oracle = oracle
        self.checkpoint = checkpoint
        self.device = like_of(model).device if device is None else any_device(device)
        self.ensemble = tuple(ensemble)
        self._models = (model, *ensemble)
        self._clock = clock
        self._check_models()
        low, high = self.config.action_low, self.config.action_high
        self._bounds = action_bounds(low, high, model.action_size)
        self._noise = self.config.action_noise * optimizers.normal_points(
            self.config.perturbations, model.action_size, self.config.seed + 1
        )

    @abstractmethod
    def _stages(self) -> list[list[Optimizer]]:
        """The search. After a stage an action is chosen; uncertain episodes go on to the next."""

    @property
    @abstractmethod
    def _widest(self) -> int:
        """The most rollouts of one episode that the search makes at once."""

    def predict(
        self,
        observation: NDArray[np.float32],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """See ``Agent.predict``. ``state``: start from this model state instead of the frames.

        Flattened frames, as the environments of whole shots show them, will do; for a model of
        pictures (``SeeingModel``) they are (B, 4, h, w, C) or (4, h, w, C), bytes or from 0 to 1.
        Where frames show a target, and the objective can be aimed (``aimed_at``), it is aimed
        there. `ValueError` for frames of a wrong shape, type or range, and what ``plan`` refuses.
        """
        shown = getattr(self.objective, "shown", 0)
        if self.picture is None:
            frames, single = batch_of_frames(observation, self.model.obs_size, shown=shown)
        else:
            frames, single = batch_of_pictures(observation, self.picture)
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

        `ValueError` for no episode; for a state of another batch size, or given to an ensemble; for
        an objective that returns scores of a wrong shape, or lacks the target of an episode.

        Args:
            frames: (B, T, D), at least one episode, or with the target behind the D numbers of
                each frame, as ``predict`` takes them, or pictures (B, 4, h, w, C) for a model of
                these. They become numbers of the type of the
                model's weights. Bytes are pictures, 0 to 255 meaning 0 to 1; all other numbers are
                taken as they are.
            state: start from this state of the model instead of the frames.
            objective: what to reach this time, in place of the planner's own.
            taken: the actions taken at the frames, (B, T, A), the last of which is ignored; by
                default none were.
        """
        started = self._now()
        with cpu_threads(self.config.threads):
            if self.device.type == "cpu":
                warn_of_fighting_threads()
            seen, own = aimed(self._as_read(frames), self.model.obs_size, self.objective)
            B = len(seen)
            states = self._observe(seen, state, taken, self._budget(started, B))
            # The search keeps its precision where the model has a lower one.
            like = states[0].hidden
            kind = torch.promote_types(like.dtype, torch.float32)
            low, high = (bound.to(like.device, kind) for bound in self._bounds)
            episodes = _Episodes(self._models, states, objective or own, low, high)
            most = max(self._widest, self.config.finalists * self.config.perturbations)
            rows = max(1, self.config.rollouts_at_once // most)
            plans = []
            for first in range(0, B, rows):
                part = episodes[first : first + rows]
                nothing = low.new_empty(len(part), 0, len(low)), low.new_empty(len(part), 0)
                budget = self._budget(started, first + len(part), len(part))
                plans.append(self._search(part, self._stages(), nothing, budget))
            return Plan.cat(plans)

    def _search(
        self, part: _Episodes, stages: list[list[Optimizer]], found: Found, budget: Budget
    ) -> Plan:
        """Goes on from what was found; uncertain episodes go through the next stages too."""
        models = [part.score_of(member) for member in range(len(part.models))]
        score = _mean_of(models) if self.config.search_ensemble else models[0]
        for optimize in stages[0]:
            found = optimize(score, found, budget, self.config)
        finalists = budget.affordable(self.config.finalists, self.config.perturbations)
        plan = part.plan(*robust.select(models, found, finalists, self._noise))
        if len(stages) > 1 and len(rows := (plan.belief < 1).nonzero()[:, 0]):
            unsure = found[0][rows], found[1][rows]
            plan = plan.update_rows(rows, self._search(part[rows], stages[1:], unsure, budget))
        return plan

    @torch.no_grad()
    def observe(self, frames: NDArray[np.float32] | Tensor) -> State:
        """The model's state after frames (B, T, D), which are read as by ``plan``."""
        seen, _ = aimed(self._as_read(frames), self.model.obs_size, self.objective)
        return self.model.observe(seen)

    def _as_read(self, frames: NDArray[Any] | Tensor) -> Tensor:
        """Frames of the model's own type, on its device; pictures in rows of numbers."""
        if self.picture is not None and np.ndim(frames) != 3:
            frames = batch_of_pictures(frames, self.picture)[0].reshape(*np.shape(frames)[:2], -1)
        frames = as_frames(frames).to(self.device)
        if frames.shape[:1] == (0,):
            raise ValueError(
                f"frames must be of at least one episode, got shape {tuple(frames.shape)}; do not "
                "call the planner where there is nothing to plan"
            )
        return _outside_inference(frames.to(_type_of(self.model) or frames.dtype))

    def _observe(
        self, frames: Tensor, state: State | None, taken: Any, budget: Budget
    ) -> tuple[State, ...]:
        """The state of every model."""
        if state is None:
            seen = [frames]
            if taken is not None:
                seen.append(_outside_inference(as_tensor(taken).to(frames)))
            states = list[State]()
            for number, model in enumerate(self._models, start=1):
                with bounded(budget.may_play(_SEEING * number / len(self._models))):
                    states.append(model.observe(*seen))
            return tuple(states)
        if self.ensemble:
            raise ValueError(
                "a state belongs to one model, but this planner has an ensemble of "
                f"{len(self._models)}; let it plan from frames, or make it without ensemble"
            )
        if state.batch_size != len(frames):
            raise ValueError(
                f"state must have one row for each of the {len(frames)} episodes, "
                f"got {state.batch_size}"
            )
        return (state.map(_outside_inference),)

    def _budget(self, started: float, done: int, episodes: int = 1) -> Budget:
        """The budget of ``episodes``, after which ``done`` of a batch are planned."""
        if self.config.budget_ms is None:
            return Budget()
        end = started + 1e-3 * self.config.budget_ms * done
        # The selection's rollouts, and the last one, that counts the ticks.
        reserve = self.config.finalists * self.config.perturbations + 1
        return Deadline(end, self._now, episodes, reserve)

    def _now(self) -> float:
        if self.config.budget_ms is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()

    def _check_models(self) -> None:
        first, config, count = self.model, self.config, len(self._models)
        if first.action_size < 1:
            raise ValueError(
                f"a planner needs a model with actions, got {type(first).__name__} with "
                f"action_size={first.action_size}"
            )
        kind = _type_of(first)
        wanted = (first.obs_size, first.action_size, kind)
        for number, member in enumerate(self.ensemble):
            found = (member.obs_size, member.action_size, kind and (_type_of(member) or kind))
            if found != wanted:
                raise ValueError(
                    "models of an ensemble must have the obs_size, action_size and type of the "
                    f"first, {wanted}, got {found} in ensemble[{number}]; .to converts weights"
                )
        place = torch.empty(0, device=self.device).device  # "cuda" is one of several by number.
        for model in self._models:
            for other in {weight.device for weight in model.parameters()} - {place}:
                raise ValueError(
                    f"the weights of the {type(model).__name__} must be on {place}, where the "
                    f"planner is to plan, got {other}; move it with model.to, or leave the device "
                    "to the planner"
                )
        if count > 1 and not (config.finalists or config.search_ensemble):
            raise ValueError(
                "an ensemble takes part in the robust selection alone, got finalists=0; "
                "set finalists > 0, or leave the ensemble out, or set search_ensemble=True"
            )
        if config.finalists and config.perturbations < count:
            raise ValueError(
                f"perturbations must be at least {count}, one for each model of the ensemble, "
                f"got {config.perturbations}"
            )


class GradientPlanner(Planner[PlannerConfig]):
    """Screens many actions forward-only, refines the best by gradient, selects the most robust.

    See ``Planner`` for the arguments and ``PlannerConfig`` for the options. The objective and the
    model must be differentiable unless ``gradient_steps`` is 0; planning within
    ``torch.inference_mode`` is no obstacle, but a model that was loaded there is refused.
    """

    config_class = PlannerConfig

    def _stages(self) -> list[list[Optimizer]]:
        if not self.config.gradient_steps:
            return [[optimizers.sobol_search]]
        for model in self._models if self.config.search_ensemble else self._models[:1]:
            if any(part.is_inference() for part in (*model.parameters(), *model.buffers())):
                raise ValueError(
                    "expected weights that gradients can flow through, got some that were made in "
                    "torch.inference_mode; load the model outside of it, or set gradient_steps=0"
                )
        if self.config.skip_certain:
            return [[optimizers.sobol_search], [optimizers.gradient_ascent]]
        return [[optimizers.sobol_search, optimizers.gradient_ascent]]

    @property
    def _widest(self) -> int:
        return max(self.config.candidates, self.config.refined)


class CEMPlanner(Planner[CEMConfig]):
    """Searches with the cross-entropy method: nothing need be differentiable.

    See ``Planner`` for the arguments and ``CEMConfig`` for the options.
    """

    config_class = CEMConfig

    def _stages(self) -> list[list[Optimizer]]:
        return [[optimizers.cross_entropy]]

    @property
    def _widest(self) -> int:
        return self.config.population


@dataclass(frozen=True, eq=False)
class _Episodes:
    """B episodes at the moment of the action, in the imagination of M world models.

    Searches know the unit box alone; the least and greatest action, (A,), are known here.
    """

    models: tuple[WorldModel, ...]
    states: tuple[State, ...]
    objective: Objective
    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return self.states[0].batch_size

    def __getitem__(self, rows: Tensor | slice) -> _Episodes:
        states = tuple(state[rows] for state in self.states)
        return replace(self, states=states, objective=self.objective.select(rows))

    def score_of(self, member: int) -> Score:
        """Scores actions (B, S, A) in the unit box, as one of the models imagines them: (B, S)."""
        model, state = self.models[member], self.states[member]

        def score(actions: Tensor) -> Tensor:
            B, S, A = actions.shape
            scaled = self._scaled(actions).reshape(B * S, A).to(state.hidden)
            obs = model.imagine(state.repeat(S), self._times, scaled).obs
            scores = scores_of(self.objective, obs.view(B, S, *obs.shape[1:]))
            # A rollout that blew up is no success.
            return scores.to(actions.dtype).nan_to_num(nan=-torch.inf)

        return score

    def plan(self, action: Tensor, score: Tensor, belief: Tensor) -> Plan:
        """Actions (B, A) of the unit box, with the ticks of the first model on their way."""
        action = self._scaled(action).clamp(self.low, self.high)  # Scaling may round beyond them.
        state = self.states[0]
        imagined = self.models[0].imagine(state, self._times, action.to(state.hidden))
        return Plan(action, score, belief, imagined.ticks)

    @property
    def _times(self) -> Tensor:
        times = self.objective.times  # of an objective of one's own perhaps a list
        return _outside_inference(times) if isinstance(times, Tensor) else times

    def _scaled(self, actions: Tensor) -> Tensor:
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * actions


def _mean_of(scores: Sequence[Score]) -> Score:
    return lambda actions: torch.stack([score(actions) for score in scores]).mean(dim=0)


def _outside_inference(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that gradients allow if it was made in ``torch.inference_mode``."""
    return tensor.clone() if tensor.is_inference() else tensor


def _type_of(model: WorldModel) -> torch.dtype | None:
    """The type of a model's weights; None if it has none."""
    return next((part.dtype for part in model.parameters() if part.is_floating_point()), None)

"""Several workers that train one model together, each from its share of every batch.

    torchrun --nproc-per-node 2 scripts/train_world_model.py --preset rnn --run-dir runs/rnn

All workers draw the same batch from the same generator, and each takes its own slice of it, so a
run does not depend on how many there are, up to the order of summation. That holds for losses that
are means over the batch. A loss that divides by what it counts in a batch (the JumpyRNN by its
lines, the LatentJump by the frames that are known, all that learn from sequences by the real frames
where some end early, EventJump and FoldJump by one term's pairs that are still apart) becomes the
mean of the workers' losses, which weighs their shares alike. For two workers that turns the
gradient by less than 0.4 %; another batch turns it by 2 to 20 %.

The first worker alone writes files and validates. Every worker holds all of the data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jumpy_mbrl.devices import resolve_device

T = TypeVar("T")


class WorkersLostError(RuntimeError):
    """Another worker ended or does not answer."""


@dataclass(frozen=True)
class Workers:
    """The processes that train a model together, seen from one of them; by itself it is one.

    Attributes:
        device: where this one computes.
        rank: its number, from 0 on.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def check_batch(self, batch_size: int) -> None:
        """Raises ``ValueError`` unless the workers can have equal shares of a batch."""
        if batch_size % self.size:
            raise ValueError(
                f"batch_size must be divisible by the number of workers, got {batch_size} for "
                f"{self.size} workers; change one of them"
            )

    def share(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This worker's rows of a batch, all of whose tensors have the batch as first dimension.

        `ValueError` if it cannot be shared equally.
        """
        for name, rows in batch.items():
            if len(rows) % self.size:
                raise ValueError(
                    f"expected {name} in a batch to have a number of rows divisible by that of "
                    f"the workers, got {len(rows)} for {self.size} workers; change batch_size"
                )
        return {name: rows.chunk(self.size)[self.rank] for name, rows in batch.items()}

    def unite(self, loss: nn.Module) -> nn.Module:
        """The module whose gradient is the mean of the workers' gradients."""
        if self.size == 1:
            return loss
        # Not every loss uses all weights: SpriteJump learns by parts, and models without actions
        # may have a network for them all the same.
        return nn.parallel.DistributedDataParallel(
            loss,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=True,
        )

    def mean(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """The means over all workers, which have to ask for them together."""
        values = torch.stack([scalar.detach() for scalar in scalars.values()])
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return dict(zip(scalars, values.tolist(), strict=True))

    def from_first(self, work: Callable[[], T]) -> T:
        """What the first worker's ``work`` returns; its error becomes everyone's."""
        if self.size == 1:
            return work()
        box: list[Any] = [None, None]
        if self.is_first:
            try:
                box[0] = work()
            except Exception as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0, device=self.device)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def after_first(self, work: Callable[[], T]) -> T:
        """Everyone's own result of ``work``, which the others begin when the first is done."""
        done: list[T] = []
        self.from_first(lambda: done.append(work()))
        return done[0] if done else work()


def launched() -> tuple[int, int]:
    """The number of this process and how many torchrun started; (0, 1) without torchrun."""
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


@contextmanager
def join(device: str) -> Iterator[Workers]:
    """Joins the workers that torchrun started, or those of a process group that exists already.

    They stay connected until their processes end, which they should after an error in one of them.
    The process group is never destroyed: gloo's waits for a thread that may need Python's lock,
    held by whoever drops the group last, and NCCL's for the other workers.

    Of several CUDA devices each worker takes its own. `ValueError` for a device that this machine
    does not have for every worker; in the block, `WorkersLostError` if another worker ends.
    """
    rank, size = launched()
    if dist.is_available() and dist.is_initialized():
        rank, size = dist.get_rank(), dist.get_world_size()
    workers = Workers(_own_device(device, size), rank, size)
    is_cuda = workers.device.type == "cuda"
    try:
        if size > 1 and is_cuda:
            torch.cuda.set_device(workers.device)
        if size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if is_cuda else "gloo")
        yield workers
    except RuntimeError as error:
        # Errors of gloo have no class of their own.
        is_lost = type(error) is RuntimeError and "gloo" in str(error)
        if size == 1 or not (is_lost or isinstance(error, dist.DistError)):
            raise
        reason = str(error).splitlines()[0]
        raise WorkersLostError(
            f"another worker ended or does not answer; its own message says why ({reason})"
        ) from error


def _own_device(name: str, size: int) -> torch.device:
    device = resolve_device(name)
    if size == 1 or device.type == "cpu":
        return device
    if device.index is not None:
        raise ValueError(
            f"expected device 'cuda' for {size} workers, got {name!r}; each takes its own"
        )
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= count:
        raise ValueError(
            f"expected a CUDA device for every worker, but torch sees {count} here and this is "
            f"worker {local} of the machine, counted from 0; start fewer workers, or use 'cpu'"
        )
    return torch.device("cuda", local)

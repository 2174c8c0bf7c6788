"""Ranks: this process's place among those that train together, and what they do together.

All of them run the same stages on the same data. Rank 0 leads: the run folder, the ledger and the secret key are its
own. Each has a part of the units in every release, and a part of the images in every public step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.torchrun import place_here

# that one waits for another. Of one that has died all know at once; this is for one that hangs, and some stages have
# work between two meetings that is not shared out
PATIENCE = timedelta(minutes=30)
LAST_WORD = 3.0  # seconds that others give rank 0 to say what is wrong and to tidy up: torchrun ends all with the first
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """A place among `size` processes; the fields are those of `Place`. Alone, every method leaves things as they are.

    What all do together must be called by all, in the same order. Where one of them has ended, it raises
    ConnectionError in the others.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes, charges and draws noise."""
        return self.rank == 0

    def own(self, num: int) -> Tensor:
        """[own] int64 places of 0..num-1 that are this rank's, in rising order: every one is some rank's, and no two's.

        By place alone, which is no secret: who joins and what is drawn for whom is.
        """
        return torch.arange(num)[self.rank :: self.size]

    def part(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """This rank's part of a public batch; all parts have one length.

        Raises:
            ValueError: the batch has another length than ranks can share evenly.
        """
        if tensor.shape[dim] % self.size:
            raise ValueError(
                f"a batch of {tensor.shape[dim]} images cannot be shared evenly by {self.size} processes; give its "
                f"section a batch_size that {self.size} divides, or torchrun another --nproc-per-node"
            )
        return tensor.chunk(self.size, dim)[self.rank]

    def add_up(self, total: Tensor) -> None:
        """Puts the sum of what all ranks hold in the place of `total`; the same to the bit in all of them."""
        if not self.alone:
            with self._others_there():
                dist.all_reduce(total)

    def average_gradients(self, *modules: nn.Module) -> None:
        """Gives weights the mean of all ranks' gradients."""
        if self.alone:
            return
        weights = [weight for module in modules for weight in module.parameters() if weight.grad is not None]
        gradients: list[Tensor] = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self.add_up(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def take_from_first(self, module: nn.Module) -> None:
        """Gives a module the state that rank 0's has."""
        if not self.alone:
            for tensor in module.state_dict().values():
                with self._others_there():
                    dist.broadcast(tensor, 0)

    def from_first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, in all of them: plain data and tensors on the CPU."""
        if self.alone:
            return make()
        made: list[Any] = [make() if self.leads else None]
        with self._others_there():
            dist.broadcast_object_list(made, 0, device=torch.device("cpu"))
        return made[0]

    def gathered(self, value: T) -> list[T]:
        """What each of them has, by rank: plain data."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.size
        with self._others_there():
            dist.all_gather_object(values, value)
        return values

    def any(self, happened: bool) -> bool:
        """Whether it happened to one of them."""
        flag = torch.tensor(float(happened))
        self.add_up(flag)
        return bool(flag)

    def require_same(self, what: str, value: str) -> None:
        """Refuses to go on where a rank has something else than rank 0.

        Raises:
            ValueError: in every rank.
        """
        values = self.gathered(value)
        if other := [rank for rank, theirs in enumerate(values) if theirs != values[0]]:
            raise ValueError(
                f"{what} of rank {other[0]} are not those of rank 0; give all processes the same command and the same "
                "files"
            )

    def draws(self, randomness: PrivateRandomness) -> PrivateRandomness:
        """What this rank draws from for its own units: who of them joins, and draws inside their rows.

        Args:
            randomness: the stage's, which alone is saved; alone, it is returned itself. Otherwise a stream of its own,
                which `new_step` gives a key.
        """
        return randomness if self.alone else PrivateRandomness(randomness.device, seed=randomness.seed)

    def new_step(self, draws: PrivateRandomness, randomness: PrivateRandomness) -> None:
        """Gives `draws` its key for one release: of a key that rank 0 draws from `randomness`, and of this rank.

        Formal guarantee: no two ranks draw the same numbers, nor do two steps; a step that is made again by as many
        ranks, from the same `randomness` of rank 0, draws them again, and no other step does.
        """
        if not self.alone:
            key = self.from_first(randomness.key_for_another)
            draws.follow(key, f"rank {self.rank} of {self.size}")

    def device(self, device: torch.device) -> torch.device:
        """This rank's own of the devices of a kind.

        Raises:
            ValueError: the machine has not so many, or one was named that all of them would take.
        """
        if self.alone or device.type == "cpu":
            return device
        if device.index is not None:
            raise ValueError(
                f"device={device} is one GPU, and {self.size} processes were started, each of which takes its own; use "
                "device=cuda or device=auto"
            )
        if self.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"torchrun started process {self.local_rank}, counted from 0, on a machine where torch sees "
                f"{torch.cuda.device_count()} GPUs; pass --nproc-per-node={torch.cuda.device_count()} or device=cpu"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    @contextmanager
    def _others_there(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch's errors of connections are some of these
            raise ConnectionError(
                f"rank {self.rank} waited for others, one of which has ended ({str(error).splitlines()[0]}); see what "
                "that one says; the same command goes on"
            ) from error


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process's place among those that torchrun started, which it joins as long as the block lasts.

    Messages between GPUs go by NCCL, those between CPUs by gloo. Where the block raises, the process is left to end as
    it is, a rank that does not lead after a moment: its connections close with it, and whoever waits for it knows.
    """
    place = place_here()
    if place.size == 1:
        yield ALONE
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    ranks = Ranks(place.rank, place.size, place.local_rank)
    try:
        yield ranks
    except Exception:
        if not ranks.leads:
            time.sleep(LAST_WORD)
        raise
    ranks.any(False)  # nobody leaves while another still has something to ask
    dist.destroy_process_group()

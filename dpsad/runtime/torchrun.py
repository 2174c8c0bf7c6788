"""What torchrun tells each process that it starts, in the environment. Loads nothing."""

import os
from dataclasses import dataclass

KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # those that it sets, all of them


@dataclass(frozen=True)
class Place:
    """A process's place among those that were started together.

    rank: 0..size-1; 0 leads.
    size: how many there are, on all machines.
    local_rank: among those on this machine, 0..; which GPU it takes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def place_here() -> Place:
    """This process's place; that of one alone where torchrun did not start it.

    Raises:
        ValueError: the environment has all of torchrun's keys, and a value that is no place.
    """
    if not all(key in os.environ for key in KEYS):
        return Place()
    told = {key: os.environ[key] for key in KEYS[:3]}
    try:
        rank, size, local_rank = map(int, told.values())
    except ValueError:
        rank, size, local_rank = -1, 0, -1
    if not (0 <= rank < size and local_rank >= 0):
        said = ", ".join(f"{key}={value!r}" for key, value in told.items())
        raise ValueError(f"{said} is no place among processes; start them by torchrun, or unset these variables")
    return Place(rank, size, local_rank)

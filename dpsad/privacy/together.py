"""Together: processes that make one release, each with rows of its own units."""

from typing import Protocol

from torch import Tensor


class Together(Protocol):
    """What a release asks of the processes that make it, each of which runs the same code.

    Formal guarantee: one of them leads, and no unit gives rows to two. Then a release is that of one process with all
    the units: its sum has every row once and its noise once.
    """

    @property
    def leads(self) -> bool:
        """Whether this is the one that draws the noise, and whose ledger is kept."""
        ...

    def add_up(self, total: Tensor) -> None:
        """Puts the sum of what all of them hold in the place of `total`, of one shape everywhere."""
        ...


class Alone:
    """One process that has all the units."""

    leads = True

    def add_up(self, total: Tensor) -> None:
        """Leaves it as it is."""

"""What every baseline is: the releases it plans, and one function that trains its student."""

from collections.abc import Callable
from dataclasses import dataclass

from dpsad.commands.sketch import Say, load_records
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.methods.dp_sad.prototypes import NamedPlan
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.release.export import Releasable
from dpsad.runtime.run_folder import Run


@dataclass(frozen=True)
class Opened:
    """What a baseline is trained with.

    run: its folder.
    ledger: the whole budget, nothing spent yet.
    randomness: secret, on the run's device.
    say: shows a line.
    """

    config: Config
    run: Run
    ledger: Ledger
    randomness: PrivateRandomness
    say: Say

    def read_records(self) -> ImageSet:
        """The private records; a method that learns from public images first asks for them afterwards."""
        return load_records(self.config, self.say)


@dataclass(frozen=True)
class Method:
    """A baseline.

    section: of the config that it goes by; fixed once private/<section>.checkpoint is there.
    plans: config, number of records -> every release that it will make, in order, before a record is read.
    train: trains its student, provenance released, or goes on where it stopped; charges the ledger with what `plans`
        says.
    """

    section: str
    plans: Callable[[Config, int], list[NamedPlan]]
    train: Callable[[Opened], Releasable]

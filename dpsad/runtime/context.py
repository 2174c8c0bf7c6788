"""Context, what every stage of a run works with: folder, device, streams, ledger, records."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from dpsad.data.public_images import hashed, require_apart
from dpsad.data.records import ImageSet
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.provenance import PublicImages
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.config_files import fingerprint
from dpsad.runtime.device import hardware_of
from dpsad.runtime.log import Log, LogConfig, Say
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.runtime.run_folder import Run
from dpsad.runtime.seeds import first_weights, rng_named


@dataclass(frozen=True, kw_only=True)
class Context:
    """A run, opened.

    run: its folder.
    device, precision: where and in which arithmetic models are trained.
    seed: of everything but privacy noise and batch sampling.
    ledger: the budget, and what was charged to it.
    randomness: secret, on the device.
    stated_num_records: the number of records as public knowledge; 0 takes the size of the data, which then is public.
    load_records, load_public: read the private records, and the public images.
    log_config: where measurements go besides the run folder.
    say: shows a line to whoever runs it.
    ranks: the processes that run it together, of which rank 0 has the run's folder and the others a copy each.
    """

    run: Run
    device: torch.device
    precision: str
    seed: int
    ledger: Ledger
    randomness: PrivateRandomness
    stated_num_records: int
    load_records: Callable[[], ImageSet]
    load_public: Callable[[], ImageSet]
    log_config: LogConfig
    say: Say
    ranks: Ranks = ALONE

    def rng(self, name: str, device: torch.device | None = None) -> torch.Generator:
        """The public stream of that name, on the run's device unless another is named."""
        return rng_named(self.seed, name, self.device if device is None else device)

    def first_weights(self, name: str) -> AbstractContextManager[None]:
        """Networks that are made inside have the same first weights for the same seed and name."""
        return first_weights(self.seed, name)

    def checkpoint(
        self, stage: str, *settings: object, every_seconds: float = 60.0, unnamed: bool = True
    ) -> Checkpoint:
        """Where the stage of that name stands.

        Args:
            settings: dataclasses, ids of data and other plain values that the stage goes by. A checkpoint of other
                settings or another seed is refused.
            every_seconds: how much work may be lost, at most, to a crash.
            unnamed: whether a file from before there were fingerprints is taken up.
        """
        told = fingerprint(self.seed, *settings)
        path = self.run.checkpoint(stage)
        return Checkpoint(path, fingerprint=told, every_seconds=every_seconds, unnamed=unnamed, ranks=self.ranks)

    def log(self, stage: str) -> Log:
        """Where the stage of that name notes what it measures."""
        return Log(self.run, stage, self.log_config)

    def timed(self, stage: str) -> AbstractContextManager[Callable[[], float]]:
        """Notes how long its block took, on what; yields a clock of the seconds."""
        return self.log(stage).timed(hardware_of(self.device))

    def num_records(self, records: ImageSet) -> int:
        """The number of records that sampling probabilities and divisors come from."""
        return self.stated_num_records or len(records)

    @property
    def size_is_public(self) -> bool:
        """Whether the number of records was taken from the data, and so counts as public."""
        return not self.stated_num_records

    @property
    def public_num_records(self) -> int | None:
        """The number of records as it is stated, else as it was read from data that this run has seen, if any.

        Public where the run uses it: for the rest, see `size_is_public`.
        """
        return self.stated_num_records or self.run.begun_with_num

    def share_of(self, records: ImageSet) -> ImageSet:
        """The records whose rows this rank gives; all of them where it is alone."""
        return records if self.ranks.alone else records.take(self.ranks.own(len(records)))

    def require_same(self, records: ImageSet) -> None:
        """Notes which records the run is about, and refuses others from then on.

        Raises:
            ValueError: the run was begun with other records.
        """
        noted, fingerprint = self.run.begun_with, records.fingerprint()
        if not noted:
            self.run.note_records(fingerprint, len(records))
        elif noted != fingerprint:
            raise ValueError(
                f"the records are not those that {self.run.path} was begun with, whose releases would not cover them; "
                "bring those back, or pass another run=..."
            )

    def read_records(self) -> ImageSet:
        """The private records; says so where delta is too large for them, and where some are left out.

        Raises:
            ValueError: the run was begun with other records.
        """
        records = self._own_records()
        num_records = self.num_records(records)
        if self.ledger.delta >= 1 / num_records:
            self.say(
                f"warning: privacy.delta={self.ledger.delta:g} is not below 1/{num_records}; such a guarantee lets a "
                f"record be published whole now and then; use at most {0.1 / num_records:.0e}"
            )
        if records.left_out:
            self.say(
                "warning: some records are left out: they cannot be read, or their class is none of those stated; "
                "without data.class_names and data.num_classes the first of them is named"
            )
        if records.report.skipped:
            reasons = "; ".join(reason for reason, _ in records.report.skipped)
            self.say(f"note: not all that is there is read ({reasons}); dpsad inspect counts it")
        return records

    def read_public(self) -> ImageSet:
        """The public images, none of which is a record, at their own size or at that of the records.

        Raises:
            ValueError: some are records; the run was begun with other records.
        """
        public, records = self.load_public(), self._own_records()
        require_apart("the public images", (hashed(public), hashed(public, records.image_shape[1:])), records)
        return public

    def require_apart(self, what: str, seen: Sequence[PublicImages]) -> None:
        """Refuses a model that has learned from the run's records as public images.

        Args:
            what: the model, for the error.
            seen: the public images that it has learned from; where there are none, no record is read.

        Raises:
            ValueError: a record is among them; the run was begun with other records.
        """
        if seen:
            require_apart(what, seen, self._own_records())

    def _own_records(self) -> ImageSet:
        records = self.load_records()
        self.require_same(records)
        self.ledger.note(records.read_off)
        return records

"""Prototypes of a run: released once and kept with what they have cost."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from discriminators.shard_discriminators import ShardDiscriminators
from dpsad.data.records import ImageSet, Subject
from dpsad.data.shards import Shards, shards_of_run
from dpsad.errors import reading
from dpsad.methods.dp_sad.prototype_rows import record_rows, shard_rows, teacher_rows
from dpsad.methods.dp_sad.prototypes import Rows, release_prototypes
from dpsad.methods.dp_sad.pseudo_labels import read_records
from dpsad.methods.dp_sad.queries import Answers, Proposal
from dpsad.methods.dp_sad.release_plans import plan_of_teachers, plans_of_prototypes, plans_of_spread
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.shard_teachers import ask_teachers, new_shard_discriminators, shard_teachers
from dpsad.methods.dp_sad.spread import release_spread
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import ChargeRefused, Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.runtime.context import Context
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from students.prototypes import Prototypes
from teachers.base import Teacher


@dataclass(frozen=True)
class Released:
    """What the first stage has released.

    answers: of the shards' teachers, where they were asked.
    ledger: state of the ledger after it.
    """

    prototypes: Prototypes
    answers: Answers | None
    subject: Subject
    ledger: dict

    def state_dict(self) -> dict:
        return {
            "prototypes": self.prototypes.state_dict(),
            "answers": None if self.answers is None else self.answers.state_dict(),
            "subject": self.subject.state_dict(),
            "ledger": self.ledger,
        }

    def fingerprint(self) -> str:
        """A short name of these prototypes and of their charges: the same for the same ones, and no others."""
        return fingerprint_of_state(self.state_dict())

    @staticmethod
    def of(state: dict, device: torch.device, ledger: Ledger) -> "Released":
        """Takes up saved prototypes; `ledger` is charged with what they have cost.

        Raises:
            BudgetExceeded: that is more than the ledger allows.
        """
        ledger.take_over(state["ledger"])
        answers = Answers(**state["answers"]).to(device) if state["answers"] is not None else None
        prototypes = Prototypes.from_dict(state["prototypes"]).to(device)
        return Released(prototypes, answers, Subject.from_dict(state["subject"]), state["ledger"])


def released_prototypes(settings: DpSadSettings, context: Context) -> Released:
    """Releases the run's prototypes, or takes up those that it has released."""
    path, device, ledger = context.run.prototypes, context.device, context.ledger
    if path.exists():
        with reading(path, refused=ChargeRefused):
            released = Released.of(load(path), device, ledger)
        _tell(released, context)
        context.run.checkpoint("sketch").unlink(missing_ok=True)
        return released
    records = read_records(settings, context)
    num_records, subject = context.num_records(records), Subject.of(records)
    randomness, rng, ranks = context.randomness.named("sketch"), context.rng("sketch"), context.ranks
    shards = None
    if settings.guarantee == "shards":
        shards = shards_of_run(records.ids, settings.shards.num_shards, context.seed).to(device)
        held = records.to(device)
        rows = rows_of_shards(settings, held, shards, randomness, ranks)
    else:
        held = context.share_of(records).to(device)
        rows = rows_of_records(settings, held)
    plans, answers = plans_of_prototypes(settings, ledger, num_records), None
    spread, asked = plans_of_spread(settings, ledger), []
    if shards is not None and settings.shards.teacher != "none":
        asked = [plan_of_teachers(settings, ledger.planned([*plans, *spread]), subject.num_classes)]
    _begin([*plans, *spread, *asked], settings, context, records, randomness)
    num_rounds = sum(plan.num_releases for plan in plans)
    with context.timed("sketch") as seconds, tqdm(total=num_rounds, desc="sketch", unit="round") as bar:
        prototypes = release_prototypes(
            settings.prototypes,
            rows=lambda proposal, bound: _counted(rows(proposal, bound), bar),
            plans=plans,
            num_classes=subject.num_classes,
            image_shape=subject.image_shape,
            ledger=ledger,
            randomness=randomness,
            rng=rng,
            together=ranks,
        )
        if spread:
            prototypes = release_spread(
                settings.spread,
                prototypes,
                images=held.images,
                labels=held.labels,
                plans=spread,
                ledger=ledger,
                randomness=randomness,
                together=ranks,
            )
        if shards is not None and asked:
            teachers = shard_teachers(settings.shards, settings.teacher, context, held, shards)
            discriminators = new_shard_discriminators(settings.shards, subject, context)
            prototypes, answers = ask_teachers(
                settings.shards,
                count_share=settings.prototypes.count_share,
                rows=rows_of_teachers(settings, teachers, discriminators, randomness, ranks),
                plan=asked[0],
                start=prototypes,
                ledger=ledger,
                randomness=randomness,
                rng=rng,
                together=ranks,
            )
    if records.clustered:  # labels that tell of other records make rows that are none
        prototypes = replace(prototypes, provenance=Provenance.PRIVATE)
    released = Released(prototypes, answers, subject, ledger.state_dict())
    save_atomic(released.state_dict(), path)
    _tell(released, context)
    context.run.checkpoint("sketch").unlink(missing_ok=True)  # rank 0 alone has it
    num, spent = len(prototypes.labels), ledger.spent()
    context.say(f"sketch: {num} prototypes in {seconds():.1f} s, epsilon {spent:.3f} so far")
    return released


def _begin(
    plans: Sequence[ReleasePlan],
    settings: DpSadSettings,
    context: Context,
    records: ImageSet,
    randomness: PrivateRandomness,
) -> None:
    """Puts on disk what will be charged and what will be drawn, before anything is; or takes that up after a crash, so
    that all releases are made again as they were.

    The file goes when they are kept: until then, whoever reads it can work out their noise.
    """
    sources = (settings.prototypes, settings.spread, settings.shards, [plan.to_dict() for plan in plans])
    checkpoint, promised = context.checkpoint("sketch", *sources, records.fingerprint()), context.ledger.planned([])
    checkpoint.track(randomness=randomness, ledger=promised)
    if not checkpoint.begun:
        for plan in plans:
            promised.charge(plan, fixed_noise=randomness.repeatable)
        checkpoint.save()


def _tell(released: Released, context: Context) -> None:
    """Notes, once, how many prototypes there are and what they have cost; under private/ if they are."""
    spent = Ledger(released.ledger["epsilon"], released.ledger["delta"])
    spent.load_state_dict(released.ledger)
    is_public = released.prototypes.provenance is Provenance.RELEASED
    context.log("sketch").once(public=is_public, prototypes=len(released.prototypes.labels), epsilon=spent.spent())


def _counted(rows: Iterable[Tensor | BlockRows], bar: tqdm) -> Iterable[Tensor | BlockRows]:
    """The same rows; a round is done when all of them were taken."""
    yield from rows
    bar.update()


def rows_of_records(settings: DpSadSettings, records: ImageSet) -> Rows:
    """Record rows, for guarantee=records.

    Args:
        records: on the device to work on.
    """
    by_class = [(records.labels == label).nonzero().flatten() for label in range(records.num_classes)]

    def rows(proposal: Proposal, bound: float) -> Iterable[BlockRows]:
        return record_rows(records.images, by_class, proposal, bound, settings.prototypes.count_share)

    return rows


def rows_of_shards(
    settings: DpSadSettings, records: ImageSet, shards: Shards, randomness: PrivateRandomness, ranks: Ranks = ALONE
) -> Rows:
    """Shard rows of the records themselves.

    Args:
        records, shards: on the device to work on.
        randomness: secret; which shards take part.
        ranks: those that release together; each asks its own shards.
    """
    joining = _joining(settings, randomness, ranks)

    def rows(proposal: Proposal, bound: float) -> Iterable[BlockRows]:
        joined, count_share = joining(), settings.prototypes.count_share
        return shard_rows(records.images, records.labels, shards, joined, proposal, bound, count_share)

    return rows


def rows_of_teachers(
    settings: DpSadSettings,
    teachers: Teacher,
    discriminators: ShardDiscriminators | None,
    randomness: PrivateRandomness,
    ranks: Ranks = ALONE,
) -> Rows:
    """Shard rows of the shards' teachers, and of their discriminators where there are any.

    Args:
        teachers, discriminators: one for each shard.
        randomness: secret; which shards take part.
        ranks: those that release together; each asks its own shards.
    """
    joining = _joining(settings, randomness, ranks)

    def rows(proposal: Proposal, bound: float) -> Iterable[Tensor]:
        return teacher_rows(teachers, discriminators, joining(), proposal, bound, settings.prototypes.count_share)

    return rows


def _joining(settings: DpSadSettings, randomness: PrivateRandomness, ranks: Ranks) -> Callable[[], Tensor]:
    """Draws, release by release, which of this rank's shards take part."""
    own, draws = ranks.own(settings.shards.num_shards), ranks.draws(randomness)

    def joined() -> Tensor:
        ranks.new_step(draws, randomness)
        return own[poisson_sample(len(own), settings.shards.sampling_prob, draws)].to(randomness.device)

    return joined

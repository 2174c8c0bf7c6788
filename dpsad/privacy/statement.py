"""Privacy statement of a release: privacy.json, and nothing that is not true."""

from collections.abc import Sequence

from dpsad.privacy.accounting import ACCOUNTANT, epsilon_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import UNNOTED, PublicImages

NOT_COVERED = [
    "the choice of hyperparameters, where it was made by looking at results on these records",
    "everything under private/, and numbers computed from it, such as evaluation.json",
    "rounding inside networks, where it depends on a record's place in a batch or on who else is there; sums and noise "
    "are exact",
    "the list of classes and the image size, which count as public",
    "other releases from the same records, by other runs or copies of this one, with which this one adds up: "
    "`dpsad ledger` says to how much",
]
TUNED = (
    "the choice of hyperparameters other than {keys}, where it was made by looking at results on these records (these "
    "were chosen privately, which epsilon covers)"
)
FIXED_NOISE = "privacy.noise_seed was set, so whoever knows it can take the noise away"
PUBLIC_SIZE = "the number of records, which was taken from the data and counts as public"
MORE_RECORDS = "that no person has more than {} records, which the code cannot see"
LARGE_DELTA = (
    "a record that is published whole now and then: delta={delta:g} is not below one over the number of records, "
    "{num_records}, so the guarantee allows it"
)
UNKNOWN_SIZE = (
    "a record that is published whole now and then, should there be {least:.3g} records or more, where delta={delta:g} "
    "allows it (how many there are is not public)"
)
PUBLIC_IMAGES = (
    "the public images that it learned from: none is equal to a record, but that they are public is taken on the word "
    "of whoever chose them"
)
UNNOTED_IMAGES = (
    "the images behind a public model from an older file, which does not say which they are: that they are public, and "
    "none of them a record, is taken on its word"
)
LIMITED = "data.limit was set: a record added or removed may let another in or out; use data.share instead"

NO_NOISE = "no noise was added, so there is no bound"


def formal_statement(
    ledger: Ledger,
    *,
    guarantee: str,
    size_is_public: bool,
    num_records: int | None = None,
    public_images: Sequence[PublicImages] = (),
) -> dict:
    """What may be claimed of a student whose records came in through charged releases only.

    Args:
        ledger: every charge of the run; epsilon is computed from it, not from the config. Seeded noise, none at all, or
            a limit on the number of records voids the claim.
        guarantee: records, or shards.
        size_is_public: whether the number of records was read from the data.
        num_records: the number of records where that is public, stated or read from the data; None where it is not,
            and then nothing here depends on it.
        public_images: those that the student learned from, which no epsilon speaks of.

    Returns:
        JSON-serialisable dict with guarantee, formal, epsilon, delta, adjacency, unit, accountant, events, budget,
        reasons (why not formal, if so) and not_covered; and records_per_person, where that is more than one.
    """
    spent = ledger.statement()
    reasons = [FIXED_NOISE] if ledger.fixed_noise else []
    if spent["epsilon"] is None:
        reasons.append(NO_NOISE)
    if LIMITED in ledger.read_off:
        reasons.append(LIMITED)
    not_covered = [*NOT_COVERED, *([PUBLIC_SIZE] if size_is_public else [])]
    if num_records is None and not size_is_public:
        not_covered.append(UNKNOWN_SIZE.format(least=1 / ledger.delta, delta=ledger.delta))
    elif num_records is not None and ledger.delta * num_records >= 1:
        not_covered.append(LARGE_DELTA.format(num_records=num_records, delta=ledger.delta))
    if ledger.records_per_person > 1:
        not_covered.append(MORE_RECORDS.format(ledger.records_per_person))
    not_covered += [UNNOTED_IMAGES] if UNNOTED in public_images else []
    not_covered += [PUBLIC_IMAGES] if set(public_images) - {UNNOTED} else []
    not_covered += [fact for fact in ledger.read_off if fact != LIMITED]
    return {
        "guarantee": guarantee,
        "formal": not reasons,
        **spent,
        "reasons": reasons,
        "not_covered": not_covered,
    }


def selected_statement(of_one: dict, ledger: Ledger, *, tuned: Sequence[str]) -> dict:
    """What may be claimed of the best of several repetitions, the others being kept secret.

    Args:
        of_one: `formal_statement` of the repetition that is released, as if it had been the only one.
        ledger: of that repetition among the others, with its score; epsilon is computed from it.
        tuned: keys that the repetitions chose among.

    Returns:
        As `formal_statement`, and under `selection` how the number of repetitions was drawn.
    """
    assert ledger.selection is not None
    chosen = TUNED.format(keys=", ".join(tuned))
    not_covered = [chosen if item == NOT_COVERED[0] else item for item in of_one["not_covered"]]
    return {**of_one, **ledger.statement(), "not_covered": not_covered}


def nominal_statement(plan: ReleasePlan, budget: Ledger, reasons: Sequence[str]) -> dict:
    """What may be said of a student trained by DP-SAD's published loop: no epsilon but a nominal one, and why.

    Args:
        plan: what the paper accounts, which is not what was released.
        budget: what was asked for; its entries do not matter.
        reasons: why the nominal epsilon is no guarantee.
    """
    return {
        "guarantee": "nominal",
        "formal": False,
        "epsilon": None,
        "nominal_epsilon": epsilon_of([plan.event(budget.records_per_person)], budget.delta),
        "delta": budget.delta,
        "adjacency": budget.adjacency,
        "unit": [],
        "accountant": ACCOUNTANT,
        "events": [],
        "nominal_events": [plan.to_dict()],
        "budget": {"epsilon": budget.epsilon, "delta": budget.delta},
        "reasons": list(reasons),
        "not_covered": ["any record: this run has no formal guarantee"],
    }

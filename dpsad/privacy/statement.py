"""Privacy statement of a release: privacy.json, and nothing that is not true."""

from collections.abc import Sequence

from dpsad.privacy.accounting import ACCOUNTANT, ADJACENCY, epsilon_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan

NOT_COVERED = [
    "the choice of hyperparameters, where it was made by looking at results on these records",
    "everything under private/, and numbers computed from it, such as evaluation.json",
    "rounding inside networks, where it depends on a record's place in a batch or on who else is there; sums and noise "
    "are exact",
    "the list of classes and the image size, which count as public",
]
FIXED_NOISE = "privacy.noise_seed was set, so whoever knows it can take the noise away"
PUBLIC_SIZE = "the number of records, which was taken from the data and counts as public"

NO_NOISE = "no noise was added, so there is no bound"


def formal_statement(ledger: Ledger, *, guarantee: str, size_is_public: bool) -> dict:
    """What may be claimed of a student whose records came in through charged releases only.

    Args:
        ledger: every charge of the run; epsilon is computed from it, not from the config. Seeded noise, or none, voids
            the claim.
        guarantee: records, or shards.
        size_is_public: whether the number of records was read from the data.

    Returns:
        JSON-serialisable dict with guarantee, formal, epsilon, delta, adjacency, unit, accountant, events, budget,
        reasons (why not formal, if so) and not_covered.
    """
    spent = ledger.statement()
    reasons = [FIXED_NOISE] if ledger.fixed_noise else []
    if spent["epsilon"] is None:
        reasons.append(NO_NOISE)
    return {
        "guarantee": guarantee,
        "formal": not reasons,
        **spent,
        "reasons": reasons,
        "not_covered": [*NOT_COVERED, *([PUBLIC_SIZE] if size_is_public else [])],
    }


def nominal_statement(plan: ReleasePlan, budget_epsilon: float, delta: float, reasons: Sequence[str]) -> dict:
    """What may be said of a student trained by DP-SAD's published loop: no epsilon but a nominal one, and why.

    Args:
        plan: what the paper accounts, which is not what was released.
        budget_epsilon: the epsilon that was asked for.
        delta: in (0, 1).
        reasons: why the nominal epsilon is no guarantee.
    """
    return {
        "guarantee": "nominal",
        "formal": False,
        "epsilon": None,
        "nominal_epsilon": epsilon_of([plan.event()], delta),
        "delta": delta,
        "adjacency": ADJACENCY,
        "unit": [],
        "accountant": ACCOUNTANT,
        "events": [],
        "nominal_events": [plan.to_dict()],
        "budget": {"epsilon": budget_epsilon, "delta": delta},
        "reasons": list(reasons),
        "not_covered": ["any record: this run has no formal guarantee"],
    }

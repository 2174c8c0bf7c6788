"""Cross-check of epsilon by Opacus's accountants, where they know what is released."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpsad.privacy.plan import ReleasePlan, Unit

PRV_ERROR = 0.01  # how far Opacus lets its PRV epsilon be above the true one, its default
# points of Opacus's PRV grid times plans: two seconds or so; without a bound, little noise takes all memory
_MOST_PRV_WORK = 2_000_000


@dataclass(frozen=True, kw_only=True)
class CrossCheck:
    """What another accountant says of the same plans.

    Attributes:
        accountant: its name.
        epsilon: in total; None where it says nothing.
        reason: why it says nothing; empty where it does.
    """

    accountant: str
    epsilon: float | None
    reason: str = ""


def cross_check(plans: Sequence[ReleasePlan], delta: float, records_per_person: int) -> list[CrossCheck]:
    """Epsilon of plans together by Opacus's RDP and PRV accountants, to be compared with `epsilon_of`.

    Args:
        plans: what is released of the same records, in any order.
        delta: in (0, 1).
        records_per_person: see `ReleasePlan.event`.

    Returns:
        One check by each accountant: RDP, then PRV.

    Formal guarantee: none is claimed from these numbers. Both are upper bounds under adding or removing one record,
        with Poisson sampling, as `epsilon_of` is: RDP a loose one, PRV one that exceeds the true epsilon by little more
        than `PRV_ERROR`.
    Edge cases: no plans give 0. Persons with several records, shards, plans without noise and, for PRV, what would take
        more than some seconds or fails in Opacus get a reason. RDP's orders end at 63, so it says no less than 0.1 or
        so at delta 1e-5.

    Source: Mironov et al. 2019; Gopi et al. 2021, through Opacus.
    """
    # takes a second or more to import
    from opacus.accountants import PRVAccountant, RDPAccountant

    class BoundedPRVAccountant(PRVAccountant):
        """Looks at the size of its grid before it fills it."""

        def _get_domain(self, **settings):
            domain = super()._get_domain(**settings)
            if domain.size * len(self.history) > _MOST_PRV_WORK:
                raise ValueError(f"a grid of {domain.size:.1e} points is too fine to be quick")
            return domain

    def check(name: str, accountant: RDPAccountant | PRVAccountant) -> CrossCheck:
        if not plans:
            return CrossCheck(accountant=name, epsilon=0.0)
        if reason := _why_not(plans, records_per_person):
            return CrossCheck(accountant=name, epsilon=None, reason=reason)
        accountant.history = [(plan.noise_multiplier, plan.sampling_prob, plan.num_releases) for plan in plans]
        try:
            # warnings of the ends of its orders, and divisions by zero on purpose
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return CrossCheck(accountant=name, epsilon=float(accountant.get_epsilon(delta)))
        except (ValueError, OverflowError, RuntimeError) as error:
            return CrossCheck(accountant=name, epsilon=None, reason=str(error) or type(error).__name__)

    return [check("opacus RDP", RDPAccountant()), check("opacus PRV", BoundedPRVAccountant())]


def _why_not(plans: Sequence[ReleasePlan], records_per_person: int) -> str:
    """Why Opacus has no accountant for plans; empty where it has."""
    if records_per_person > 1:
        return "it knows one record that is added or removed, not all of one person"
    if any(plan.unit is Unit.SHARD for plan in plans):
        return "it knows records that are added or removed, not shards in which one is replaced"
    if any(plan.noise_multiplier == 0 for plan in plans):
        return "a plan adds no noise"
    return ""

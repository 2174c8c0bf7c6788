"""Budget plan and its table, before a record is read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dpsad.api.config import Config
from dpsad.api.forecast import forecast
from dpsad.methods.dp_sad.nominal_noise import actual_multiplier
from dpsad.methods.dp_sad.release_plans import plan_of_nominal
from dpsad.methods.registry import DP_SAD
from dpsad.privacy.accounting import ACCOUNTANT
from dpsad.privacy.cross_check import CrossCheck, cross_check
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.runtime.device import is_gpu


def budget_plan(config: Config, num_records: int) -> list[ReleasePlan]:
    """Every release that a formal run will make, in order, before a record is read."""
    budget = Ledger.of(config.privacy)
    return config.trained_by().plans(config.settings(), budget, num_records)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run will release and cost; printing it shows a table.

    facts: guarantee, method, formal, epsilon and delta of the budget, releases with the epsilon so far, cross_check,
        and a forecast where the config states what it takes.
    """

    facts: dict[str, Any]
    table: str

    def __str__(self) -> str:
        return self.table


def budget_table(config: Config) -> Budget:
    """Every release of a run with its cost; of a nominal run, what it accounts and why that is nominal.

    Raises:
        ValueError: sampling needs the number of records, and `privacy.num_records` does not say it.
    """
    privacy, budget = config.privacy, Ledger.of(config.privacy)
    facts: dict[str, Any] = {
        "guarantee": config.guarantee,
        "method": config.method,
        "formal": config.guarantee != "nominal",
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "adjacency": budget.adjacency,
        "accountant": ACCOUNTANT,
    }
    if config.guarantee == "nominal":
        plan = plan_of_nominal(config.settings(), budget, stated_num_records(config))
        actual = actual_multiplier(config.nominal, plan.noise_multiplier)
        table = [
            f"guarantee=nominal: NOT formal. Nominal epsilon {privacy.epsilon:g} at delta {privacy.delta:g}.",
            f"  nominal: {_line(plan, None)}",
            f"The noise that is added has a multiplier of {actual:.2e} against an image's clipped gradient, not "
            f"{plan.noise_multiplier:.3f}, and the teacher is trained without any.",
        ]
        nominal = {"nominal_releases": [plan.to_dict()], "actual_noise_multiplier": actual}
        return Budget(facts={**facts, **nominal}, table="\n".join(table))
    needs_records = config.method != DP_SAD.name or bool(config.refine.steps) or config.guarantee == "shards"
    plans = budget_plan(config, stated_num_records(config) if needs_records else 1)
    totals = [budget.planned(plans[: index + 1]).spent() for index in range(len(plans))]
    checks = cross_check(plans, budget.delta, budget.records_per_person)
    table = [
        f"guarantee={config.guarantee}, method={config.method}, budget epsilon {privacy.epsilon:g} at delta "
        f"{privacy.delta:g}, {budget.adjacency}",
        *(f"  {_line(plan, total)}" for plan, total in zip(plans, totals, strict=True)),
        *([] if plans else ["nothing is released: epsilon 0"]),
        f"accountant: {ACCOUNTANT}",
        _cross_check_line(checks),
    ]
    if (told := forecast(config, on_gpu=is_gpu(config.device))) is not None:
        table += told.lines()
        facts["forecast"] = told.to_dict()
    facts["releases"] = [{**plan.to_dict(), "epsilon_so_far": total} for plan, total in zip(plans, totals, strict=True)]
    return Budget(facts={**facts, "cross_check": [asdict(check) for check in checks]}, table="\n".join(table))


def stated_num_records(config: Config) -> int:
    """The number of records as the config states it.

    Raises:
        ValueError: it does not.
    """
    if not config.privacy.num_records:
        raise ValueError("privacy.num_records=0: say how many records there are to plan without reading them")
    return config.privacy.num_records


def _cross_check_line(checks: Sequence[CrossCheck]) -> str:
    """What Opacus's accountants say of the total; accountants that say nothing for one reason share it."""
    said = [f"{check.accountant} {check.epsilon:.3f}" for check in checks if check.epsilon is not None]
    silent: dict[str, list[str]] = {}
    for check in checks:
        if check.reason:
            silent.setdefault(check.reason, []).append(check.accountant)
    said += [f"none by {' and '.join(names)}: {reason}" for reason, names in silent.items()]
    return "cross-check: " + ", ".join(said)


def _line(plan: ReleasePlan, total: float | None) -> str:
    joined = f"each {plan.unit.value} joins with probability {plan.sampling_prob:.4g}" if plan.sampling_prob < 1 else ""
    cost = "" if total is None else f"epsilon so far {total:.3f}"
    facts = [f"{plan.num_releases} x noise multiplier {plan.noise_multiplier:.3f}", joined, cost]
    return f"{plan.purpose}: " + ", ".join(fact for fact in facts if fact)

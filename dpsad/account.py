"""The whole budget plan as text, before a record is read."""

from dpsad import build
from dpsad.config import DISTILLATION, Config
from dpsad.privacy.accounting import ACCOUNTANT, ADJACENCY
from dpsad.privacy.plan import ReleasePlan


def budget_table(config: Config) -> str:
    """Every release of a run with its cost; of a `published` run, what it accounts and why that is nominal.

    Raises:
        ValueError: sampling needs the number of records, and `privacy.num_records` does not say it.
    """
    privacy = config.privacy
    if config.guarantee == "published":
        plan = build.nominal_plan_of(config, build.num_records_of(config))
        actual = plan.noise_multiplier / config.published.num_levels
        return "\n".join(
            [
                f"guarantee=published: NOT formal. Nominal epsilon {privacy.epsilon:g} at delta {privacy.delta:g}.",
                _line("nominal: as accounted by DP-SAD", plan, None),
                f"The noise that is added has a multiplier of {actual:.2e} against the clipped norm, not "
                f"{plan.noise_multiplier:.3f}, and the teacher is trained without any.",
            ]
        )
    needs_records = config.method != DISTILLATION or bool(config.refine.steps)
    plans = build.budget_plan(config, build.num_records_of(config) if needs_records else 1)
    lines = [
        f"guarantee={config.guarantee}, method={config.method}, budget epsilon {privacy.epsilon:g} at delta "
        f"{privacy.delta:g}, {ADJACENCY}"
    ]
    totals = build.epsilon_after(plans, privacy.delta)
    lines += [_line(purpose, plan, total) for (purpose, plan), total in zip(plans, totals, strict=True)]
    if not plans:
        lines.append("nothing is released: epsilon 0")
    return "\n".join([*lines, f"accountant: {ACCOUNTANT}"])


def _line(purpose: str, plan: ReleasePlan, total: float | None) -> str:
    joined = f"each {plan.unit.value} joins with probability {plan.sampling_prob:.4g}" if plan.sampling_prob < 1 else ""
    cost = "" if total is None else f"epsilon so far {total:.3f}"
    facts = [f"{plan.num_releases} x noise multiplier {plan.noise_multiplier:.3f}", joined, cost]
    return f"  {purpose}: " + ", ".join(fact for fact in facts if fact)

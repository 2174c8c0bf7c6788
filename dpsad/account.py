"""The whole budget plan as text, before a record is read."""

from dpsad import build, build_rows, build_sketch
from dpsad.build_baseline import method_of
from dpsad.config import DISTILLATION, Config
from dpsad.privacy.accounting import ACCOUNTANT, ADJACENCY, epsilon_of
from dpsad.privacy.cross_check import cross_check
from dpsad.privacy.plan import ReleasePlan
from dpsad.stages.nominal import actual_multiplier
from dpsad.stages.sketch import NamedPlan


def budget_table(config: Config) -> str:
    """Every release of a run with its cost; of a `published` run, what it accounts and why that is nominal.

    Raises:
        ValueError: sampling needs the number of records, and `privacy.num_records` does not say it.
    """
    privacy = config.privacy
    if config.guarantee == "published":
        plan = build.nominal_plan_of(config, build.num_records_of(config))
        actual = actual_multiplier(config.published, plan.noise_multiplier)
        return "\n".join(
            [
                f"guarantee=published: NOT formal. Nominal epsilon {privacy.epsilon:g} at delta {privacy.delta:g}.",
                _line("nominal: as accounted by DP-SAD", plan, None),
                f"The noise that is added has a multiplier of {actual:.2e} against an image's clipped gradient, not "
                f"{plan.noise_multiplier:.3f}, and the teacher is trained without any.",
            ]
        )
    needs_records = config.method != DISTILLATION or bool(config.refine.steps) or config.guarantee == "shards"
    plans = budget_plan(config, build.num_records_of(config) if needs_records else 1)
    lines = [
        f"guarantee={config.guarantee}, method={config.method}, budget epsilon {privacy.epsilon:g} at delta "
        f"{privacy.delta:g}, {ADJACENCY}"
    ]
    totals = [
        epsilon_of([plan.event() for _, plan in plans[: index + 1]], privacy.delta) for index in range(len(plans))
    ]
    lines += [_line(purpose, plan, total) for (purpose, plan), total in zip(plans, totals, strict=True)]
    if not plans:
        lines.append("nothing is released: epsilon 0")
    return "\n".join(
        [*lines, f"accountant: {ACCOUNTANT}", _cross_check_line([plan for _, plan in plans], privacy.delta)]
    )


def budget_plan(config: Config, num_records: int) -> list[NamedPlan]:
    """Every release that a formal run will make, in order, before a record is read."""
    if config.method != DISTILLATION:
        return method_of(config).plans(config, num_records)
    plans: list[NamedPlan] = []
    if config.teacher.data == "sketch":
        plans += build_sketch.plans_of_sketch(config, num_records)
        if config.guarantee == "shards" and config.shards.teacher != "none":
            # the bound on a row depends on the number of classes; what it costs does not
            plans.append(build_sketch.plan_of_consulting(config, max(1, config.data.num_classes), plans))
    if config.refine.steps:
        plans.append(
            (build.REFINE, build_rows.gradient_plan("refine", config.refine, config.privacy, num_records, plans))
        )
    return plans


def _cross_check_line(plans: list[ReleasePlan], delta: float) -> str:
    """What Opacus's accountants say of the total; accountants that say nothing for one reason share it."""
    checks = cross_check(plans, delta)
    said = [f"{check.accountant} {check.epsilon:.3f}" for check in checks if check.epsilon is not None]
    silent: dict[str, list[str]] = {}
    for check in checks:
        if check.reason:
            silent.setdefault(check.reason, []).append(check.accountant)
    said += [f"none by {' and '.join(names)}: {reason}" for reason, names in silent.items()]
    return "cross-check: " + ", ".join(said)


def _line(purpose: str, plan: ReleasePlan, total: float | None) -> str:
    joined = f"each {plan.unit.value} joins with probability {plan.sampling_prob:.4g}" if plan.sampling_prob < 1 else ""
    cost = "" if total is None else f"epsilon so far {total:.3f}"
    facts = [f"{plan.num_releases} x noise multiplier {plan.noise_multiplier:.3f}", joined, cost]
    return f"  {purpose}: " + ", ".join(fact for fact in facts if fact)

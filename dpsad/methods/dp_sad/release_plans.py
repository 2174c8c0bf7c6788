"""Release plans of dp-sad: every release of a run, as public data, before a record is read."""

from dataclasses import replace

from dpsad.methods.dp_sad.guide import guide_plan
from dpsad.methods.dp_sad.matching import matching_plan
from dpsad.methods.dp_sad.nominal_noise import nominal_plan
from dpsad.methods.dp_sad.prototypes import prototype_plans
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.spread import spread_plans
from dpsad.privacy.gaussian import gaussian_epsilon, gaussian_mu
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.training.private_denoiser import gradient_plan


def plans(settings: DpSadSettings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """Every release that a formal run will make, in order. Where nothing is formal, none counts."""
    if settings.guarantee == "nominal":
        return []
    planned: list[ReleasePlan] = []
    if settings.uses_prototypes:
        planned += plans_of_prototypes(settings, budget, num_records) + plans_of_spread(settings, budget)
        if settings.guarantee == "shards" and settings.shards.teacher != "none":
            # the bound on a row depends on the number of classes; what it costs does not
            num_classes = max(1, settings.data.num_classes)
            planned.append(plan_of_teachers(settings, budget.planned(planned), num_classes))
    later = plans_of_guide(settings, budget) + plans_of_matching(settings, budget)
    if settings.refine.steps:
        refinement = gradient_plan("refine", "refine", settings.refine, num_records)
        planned.append(budget.planned([*planned, *later]).calibrate(refinement))
    return planned + later


def plan_of_nominal(settings: DpSadSettings, budget: Ledger, num_records: int) -> ReleasePlan:
    """What DP-SAD would account for the student of a nominal run."""
    student = settings.student
    sampling_prob = min(1.0, student.batch_size / num_records)
    return budget.calibrate(nominal_plan(settings.nominal.clip_norm, sampling_prob, student.steps))


def plans_of_prototypes(settings: DpSadSettings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """The prototypes' releases, with the noise that their share of the budget asks for."""
    mu, shards = prototypes_mu(settings, budget), settings.shards
    if settings.guarantee != "shards":
        return prototype_plans(settings.prototypes, mu * (1 - settings.spread.share) ** 0.5)
    mu *= 1.0 if shards.teacher == "none" else (1 - shards.teacher_share) ** 0.5
    # a row is made of as many records' as a shard has, by public numbers
    clip_norm = shards.relative_clip_norm * max(1.0, num_records / shards.num_shards) ** 0.5
    planned = prototype_plans(settings.prototypes, mu, unit=Unit.SHARD, clip_norm=clip_norm)
    return _sampled(settings, planned, mu, budget)


def plans_of_spread(settings: DpSadSettings, budget: Ledger) -> list[ReleasePlan]:
    """The releases of how records lie around prototypes, with their share of the prototypes' budget, if any."""
    share = settings.spread.share
    return spread_plans(settings.spread, prototypes_mu(settings, budget) * share**0.5) if share else []


def plans_of_guide(settings: DpSadSettings, budget: Ledger) -> list[ReleasePlan]:
    """The guide's releases, with their share of the whole budget, if any."""
    share = settings.guide.share
    return [guide_plan(settings.guide, _whole_mu(budget) * share**0.5)] if share else []


def plans_of_matching(settings: DpSadSettings, budget: Ledger) -> list[ReleasePlan]:
    """The release of features' class means, with its share of the whole budget, if any."""
    share = settings.matching.share
    return [matching_plan(_whole_mu(budget) * share**0.5)] if share else []


def plan_of_teachers(settings: DpSadSettings, budget: Ledger, num_classes: int) -> ReleasePlan:
    """The release of the answers of shards' teachers, one at each level.

    Args:
        budget: after the prototypes' plans, which share it.
    """
    shards, mu = settings.shards, prototypes_mu(settings, budget)
    plan = ReleasePlan(
        purpose="answers of the shards' teachers",
        unit=Unit.SHARD,
        # a row is made of one answer to every question
        clip_norm=shards.relative_clip_norm * (num_classes * shards.queries) ** 0.5,
        noise_multiplier=Unit.SHARD.reach * len(shards.levels) ** 0.5 / (mu * shards.teacher_share**0.5),
        num_releases=len(shards.levels),
    )
    (sampled,) = _sampled(settings, [plan], mu, budget)
    return sampled


def prototypes_mu(settings: DpSadSettings, budget: Ledger) -> float:
    """The prototypes' share of the budget; all but the guide's and the features' where nothing is left to refine."""
    share = settings.privacy.split if settings.refine.steps else 1 - settings.guide.share - settings.matching.share
    return _whole_mu(budget) * share**0.5


def _whole_mu(budget: Ledger) -> float:
    """What one record may move a sum by, over the noise, within the whole budget.

    All of a person's records move it so many times as far.
    """
    # a hair below the exact budget, so that the accountant's rounding does not refuse it
    return gaussian_mu(budget.epsilon * (1 - 1e-4), budget.delta) / budget.records_per_person


def _sampled(settings: DpSadSettings, planned: list[ReleasePlan], mu: float, budget: Ledger) -> list[ReleasePlan]:
    """The same releases by sampled shards, all noises scaled so that, with what is planned before, they cost `mu`."""
    if settings.shards.sampling_prob == 1:
        return planned
    by_sampled = [replace(plan, sampling_prob=settings.shards.sampling_prob) for plan in planned]
    epsilon = gaussian_epsilon(mu * budget.records_per_person, budget.delta)
    return budget.calibrate_together(by_sampled, epsilon)

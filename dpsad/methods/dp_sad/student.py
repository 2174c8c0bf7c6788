"""Student of dp-sad: distilled from its teacher, formally or as the paper has it, and refined by records."""

from dataclasses import replace

import torch

from discriminators.choice import Discriminator, new_discriminator
from dpsad.data.records import ImageSet, Subject
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import every_level, linear_schedule_levels, lognormal_levels, one_random_level
from dpsad.methods.dp_sad.distillation import Levels, Sanitize, distill
from dpsad.methods.dp_sad.finishing import finished
from dpsad.methods.dp_sad.nominal_noise import NominalConfig, nominal_noise, reasons
from dpsad.methods.dp_sad.prototype_release import Released
from dpsad.methods.dp_sad.pseudo_labels import read_records
from dpsad.methods.dp_sad.queries import Answers
from dpsad.methods.dp_sad.release_plans import plan_of_nominal, plans_of_guide, plans_of_matching
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.shorten import shortened
from dpsad.methods.dp_sad.teacher import TeacherConfig, read_teacher, teacher_fingerprint
from dpsad.methods.method import Trained, formally
from dpsad.privacy.provenance import Provenance, require_released
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.statement import nominal_statement
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.runtime.context import Context
from dpsad.runtime.device import on_device
from dpsad.training.batches import Batches, batches_of_images, batches_of_prototypes
from dpsad.training.models import new_denoiser
from dpsad.training.private_denoiser import fit_to_records, lognormal_of
from students.from_prototypes import StartedDenoiser
from students.prototypes import Prototypes
from teachers.denoiser import DenoiserTeacher


def distill_formally(settings: DpSadSettings, context: Context) -> Trained:
    """Distils the student from released models alone, then refines it by records' rows where planned."""
    teacher, subject, saved = read_teacher(settings.teacher, settings.network, context)
    require_released("the teacher", teacher.provenance, f"a run with guarantee={settings.guarantee}")
    context.require_apart("the teacher", teacher.public_images)
    if saved is None and settings.sampler.start == "prototypes":
        raise ValueError(
            f"sampler.start=prototypes needs prototypes, and the teacher at teacher.path={settings.teacher.path} has "
            "learned from none; use sampler.start=noise and a sampler.sigma_max of 20 or more"
        )
    learned_from = teacher_fingerprint(teacher, saved)
    released = Released.of(saved, context.device, context.ledger) if saved is not None else None
    uses_records = settings.refine.steps > 0 or settings.guide.share > 0
    records = _records_of(subject, settings, context) if uses_records else None
    if released is None:
        public = context.read_public()
        batches, source = batches_of_images(public, settings.augmentation, context.device), public.fingerprint()
    else:
        batches = batches_of_prototypes(released.prototypes, settings.augmentation, subject.num_classes)
        source = ""  # the teacher's fingerprint covers its prototypes
    student = _distilled(
        settings,
        context,
        teacher,
        subject,
        batches,
        (learned_from, source),
        levels=levels_of_teacher(settings.teacher),
        sanitize=None,
        answers=released.answers if released is not None else None,
    )
    for_guide, for_matching = plans_of_guide(settings, context.ledger), plans_of_matching(settings, context.ledger)
    if records is not None and settings.refine.steps:
        student = fit_to_records(
            "refine",
            "refine",
            settings.refine,
            context,
            denoiser=student.requires_grad_(True),
            levels=lognormal_of(settings.refine),
            label_dropout=0.0,
            records=records,
            learned_from=learned_from,
            reserved=[*for_guide, *for_matching],
        )
    made = releasable_student(settings, student, subject, released.prototypes if released is not None else None)
    made = finished(settings, context, made, records, for_guide, for_matching)
    # how far a shard's row is clipped depends on the number of records, too
    uses_size = records is not None or settings.guarantee == "shards"
    return formally(made, context, settings.guarantee, uses_size=uses_size)


def distill_nominally(settings: DpSadSettings, context: Context) -> Trained:
    """Distils the student as DP-SAD publishes it: no guarantee, a nominal epsilon and the reasons."""
    teacher, subject, saved = read_teacher(settings.teacher, settings.network, context)
    records = _records_of(subject, settings, context)
    plan = plan_of_nominal(settings, context.ledger, context.num_records(records))
    randomness = context.randomness.named("nominal noise")
    context.say("warning: guarantee=nominal is NOT a formal privacy guarantee; the epsilon of this run is nominal")
    student = _distilled(
        settings,
        context,
        teacher,
        subject,
        batches_of_images(records, settings.augmentation, context.device),
        (teacher_fingerprint(teacher, saved), records.fingerprint()),
        levels=levels_of_chain(settings.nominal, context.device),
        sanitize=nominal_noise(settings.nominal, plan.noise_multiplier, randomness),
        noise=randomness,
        answers=None,
    )
    copies_teacher = settings.student.start == "teacher" and teacher.provenance is Provenance.PRIVATE
    why = reasons(settings.nominal, copies_teacher=copies_teacher, clustered=records.clustered)
    statement = nominal_statement(plan, context.ledger, why)
    made = releasable_student(settings, student, subject, None)
    return Trained(shortened(settings.shorten, context, made) if settings.shorten.steps else made, statement)


def _distilled(
    settings: DpSadSettings,
    context: Context,
    teacher: DenoiserTeacher,
    subject: Subject,
    batches: Batches,
    sources: tuple[str, str],
    *,
    levels: Levels,
    sanitize: Sanitize | None,
    answers: Answers | None,
    noise: PrivateRandomness | None = None,
) -> Denoiser:
    """The averaged student after the loop that both ways share.

    Args:
        sources: fingerprints of the teacher, and of what batches are drawn from.
        noise: what `sanitize` draws from, if anything.
    """
    config = settings.student
    student = new_denoiser(settings.network, subject, context, "student", use_labels=config.use_labels)
    if config.start == "teacher":
        student.load_state_dict(teacher.denoiser.state_dict())
        student.provenance, student.public_images = teacher.provenance, teacher.public_images
    # files of version 0.1 do not say which teacher the student has learned from, and so what that has cost
    checkpoint = context.checkpoint(
        "distill", config, settings.discriminator, settings.nominal, settings.network, *sources, unnamed=False
    )
    if noise is not None:
        checkpoint.track(noise=noise)
    with context.timed("distill") as seconds:
        student = distill(
            config,
            student=student,
            teacher=teacher,
            discriminator=discriminator_of(settings, subject, context),
            penalty_weight=settings.discriminator.gradient_penalty,
            feature_weight=settings.discriminator.feature_matching,
            batches=batches,
            answers=answers,
            levels=levels,
            sanitize=sanitize,
            rng=context.rng("distill"),
            checkpoint=checkpoint,
            log=context.log("distill"),
            precision=context.precision,
            ranks=context.ranks,
        )
    context.say(f"distill: {config.steps} steps in {seconds():.0f} s")
    return student


def _records_of(subject: Subject, settings: DpSadSettings, context: Context) -> ImageSet:
    """The records that a student of such images learns from.

    Raises:
        ValueError: they are of another shape or other classes.
    """
    records = read_records(settings, context)
    if Subject.of(records) != subject:
        raise ValueError(
            f"the teacher makes images of shape {list(subject.image_shape)} in {subject.num_classes} classes, the "
            f"records are of shape {list(records.image_shape)} in {len(records.class_names)}; teach on such data"
        )
    return records


def discriminator_of(settings: DpSadSettings, subject: Subject, context: Context) -> Discriminator | None:
    """An untrained discriminator, or None where the student's loss does not ask it."""
    if settings.student.adversarial_weight == 0 and settings.discriminator.feature_matching == 0:
        return None
    with context.first_weights("critic"):  # the name is part of the seed
        discriminator = new_discriminator(
            settings.discriminator, image_channels=subject.image_shape[0], num_classes=subject.num_classes
        )
    return on_device(discriminator, context.device)


def levels_of_teacher(config: TeacherConfig) -> Levels:
    """One random noise level an image, of the teacher's own."""
    mean, std = config.sigma_mean, config.sigma_std
    return lambda num, rng: lognormal_levels(num, mean=mean, std=std, rng=rng)[None]


def levels_of_chain(config: NominalConfig, device: torch.device) -> Levels:
    """One or all of the paper's T timesteps an image."""
    table = linear_schedule_levels(config.num_levels).to(device)
    pick = every_level if config.timesteps == "all" else one_random_level
    return lambda num, rng: table[pick(len(table), num, rng)]


def releasable_student(
    settings: DpSadSettings, denoiser: Denoiser, subject: Subject, prototypes: Prototypes | None
) -> Releasable:
    """What is handed out of a finished run: its denoiser, and prototypes where samples start from them."""
    release = ReleaseConfig(
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        use_labels=settings.student.use_labels,
        network=settings.network,
        sampler=settings.sampler,
    )
    if settings.sampler.start == "noise":
        return Releasable(denoiser, release)
    assert prototypes is not None  # the settings refuse runs without any
    started = replace(
        release,
        kind="prototypes",
        num_prototypes=len(prototypes.labels),
        spread_dim=prototypes.spread_dim,
        spread_groups=0 if prototypes.spread is None else len(prototypes.spread.factors),
        augmentation=settings.augmentation,
    )
    return Releasable(StartedDenoiser(denoiser, prototypes), started)

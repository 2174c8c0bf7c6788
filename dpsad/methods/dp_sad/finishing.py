"""What comes once the student has learned from records: a guide, features to match, and fewer steps."""

from collections.abc import Sequence
from functools import partial

from dpsad.data.records import ImageSet
from dpsad.methods.dp_sad.guide import proposals_by, train_guide
from dpsad.methods.dp_sad.matching import matching_of, release_class_means, seen_of
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.shorten import Matched, shortened
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import provenance_of
from dpsad.release.students import Releasable, guided_release
from dpsad.runtime.context import Context
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from students.guide import Guide
from students.sampling import even_labels, generate


def finished(
    settings: DpSadSettings,
    context: Context,
    made: Releasable,
    records: ImageSet | None,
    for_guide: Sequence[ReleasePlan],
    for_matching: Sequence[ReleasePlan],
) -> Releasable:
    """What is handed out of a formal run: a student of few steps and its guide, where they are asked for.

    Args:
        made: the student that has learned from records.
        records: those that the guide is to learn from.
        for_guide, for_matching: their releases, which the settings ask for or not.

    Formal guarantee: post-processing of `made`, and of these releases, which the ledger is charged with.
    """
    if records is None or not for_guide:
        return shortened(settings.shorten, context, made) if settings.shorten.steps else made
    learned_from, relabel = fingerprint_of_state(made.model.state_dict()), settings.guide.relabel
    with context.timed("guide") as seconds:
        samples = _samples(settings, context, made, records.class_names)
        guide = train_guide(
            settings.guide, context, samples=samples, records=records, plan=for_guide[0], learned_from=learned_from
        )
    context.say(f"guide: {settings.guide.steps} steps in {seconds():.0f} s; epsilon {context.ledger.spent():.3f}")
    if settings.shorten.steps:
        matched, told = _matched(settings, context, guide, samples, records, for_matching)
        made = shortened(settings.shorten, context, made, matched, told)
        samples = _samples(settings, context, made, records.class_names) if relabel else samples
    if relabel:
        guide.proposals = proposals_by(guide, samples)
    return guided_release(made, guide, settings.guide.features, settings.guide.attempts)


def _matched(
    settings: DpSadSettings,
    context: Context,
    guide: Guide,
    samples: ImageSet,
    records: ImageSet,
    for_matching: Sequence[ReleasePlan],
) -> tuple[Matched | None, tuple[object, ...]]:
    """What a student is asked while it is shortened, if anything, and what that goes by."""
    config = settings.matching
    if not (for_matching or config.class_weight):
        return None, ()
    seen, released = seen_of(guide, samples.images, layers=config.layers and bool(for_matching)), None
    context.ranks.take_from_first(seen)
    told = fingerprint_of_state(seen.state_dict())
    if for_matching:
        released = release_class_means(seen, context, records=records, plan=for_matching[0], learned_from=told)
        told += fingerprint_of_state(released.state_dict())
    return partial(matching_of, config, seen, released, context.ranks), (config, told)


def _samples(settings: DpSadSettings, context: Context, made: Releasable, class_names: tuple[str, ...]) -> ImageSet:
    """Images of a student, as it makes them without a guide."""
    labels = even_labels(settings.guide.images, len(class_names))
    return ImageSet(
        images=generate(made.student(), labels, seed=context.seed),
        labels=labels,
        ids=tuple(map(str, range(len(labels)))),
        class_names=class_names,
        provenance=provenance_of(made.model),
    )

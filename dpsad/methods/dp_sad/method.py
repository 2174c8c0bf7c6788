"""DP-SAD under three guarantees: its stages, and all of them in one go."""

from dataclasses import replace

from dpsad.data.records import Subject
from dpsad.methods.dp_sad.prototype_release import released_prototypes
from dpsad.methods.dp_sad.pseudo_labels import read_records
from dpsad.methods.dp_sad.rehearsal import rehearse
from dpsad.methods.dp_sad.release_plans import plans
from dpsad.methods.dp_sad.settings import GUARANTEES, DpSadSettings
from dpsad.methods.dp_sad.stages import stages
from dpsad.methods.dp_sad.student import distill_formally, distill_nominally
from dpsad.methods.dp_sad.teacher import train_teacher
from dpsad.methods.method import Method, Trained
from dpsad.runtime.context import Context
from dpsad.training.batches import batches_of_images, batches_of_prototypes


def teach(settings: DpSadSettings, context: Context) -> None:
    """Trains the run's teacher, or goes on where it stopped; the prototypes come first where it learns from them."""
    if context.run.teacher.exists():
        context.say(f"teach: {context.run.teacher} is there already")
        return
    if settings.uses_prototypes:
        released = released_prototypes(settings, context)
        subject, state, source = released.subject, released.state_dict(), released.fingerprint()
        batches = batches_of_prototypes(released.prototypes, settings.augmentation, subject.num_classes)
    else:
        private = settings.teacher.data == "private"
        images = read_records(settings, context) if private else context.read_public()
        subject, state, source = Subject.of(images), None, images.fingerprint()
        batches = batches_of_images(images, settings.augmentation, context.device)
    train_teacher(
        settings.teacher,
        settings.network,
        context,
        subject=subject,
        batches=batches,
        source=source,
        prototypes=state,
    )


def distill(settings: DpSadSettings, context: Context) -> Trained:
    """Distils the run's student from its teacher, under the guarantee that was asked for."""
    return (distill_nominally if settings.guarantee == "nominal" else distill_formally)(settings, context)


def train(settings: DpSadSettings, context: Context) -> Trained:
    """All stages that are not done yet."""
    if settings.teacher.path is None:
        # what prototypes have cost is kept beside them, and charged to whoever reads the teacher that saw them
        teach(settings, replace(context, ledger=context.ledger.planned([])))
    return distill(settings, context)


METHOD = Method(
    name="dp-sad",
    about="DP-SAD (Liu et al. 2024) under guarantees that hold: prototypes, a teacher that learns from them, a student "
    "that is distilled and refined by records. Its stages are `dpsad sketch`, `teach` and `distill`.",
    settings=DpSadSettings,
    guarantees=GUARANTEES,
    stages=stages,
    plans=plans,
    rehearse=rehearse,
    train=train,
    shared=("records", "shards"),
)

"""Stages of dp-sad, and the keys that each of them settles."""

from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.method import Stage

SKETCH, TEACH = "sketch", "teach"


def stages(settings: DpSadSettings) -> tuple[Stage, ...]:
    """Sketch, teach, distill, refine, guide, matching, shorten; those that are left out leave no file."""
    is_nominal, by_shards = settings.guarantee == "nominal", settings.guarantee == "shards"
    shards = ("shards", *(("teacher",) if settings.shards.teacher == "denoisers" else ())) if by_shards else ()
    shown = {"private": ("data",), "public": ("public_data",)}.get(settings.teacher.data, ())
    student = ("network", "teacher", "augmentation", "student", "discriminator")
    return (
        Stage(
            name=SKETCH,
            files=("sketch.pt", "sketch.checkpoint", "shards.checkpoint"),
            keys=("data", "privacy", "prototypes", "spread", *shards),
            planned={  # see `prototypes_mu`
                "refine.steps": settings.refine.steps > 0,
                "guide.share": 0.0 if settings.refine.steps else settings.guide.share,
                "matching.share": 0.0 if settings.refine.steps else settings.matching.share,
            },
        ),
        Stage(
            name=TEACH,
            files=("teach.checkpoint", "teacher.pt", "clusters.pt"),
            keys=("network", "teacher", "augmentation", *shown),
        ),
        Stage(
            name="distill",
            files=("distill.checkpoint",),
            keys=(*student, *(("data", "privacy", "nominal") if is_nominal else shown)),
        ),
        # what the guide and the features' means are to cost is left over
        Stage(
            name="refine",
            files=("refine.checkpoint",),
            keys=("data", "privacy", "refine", "guide.share", "matching.share"),
        ),
        Stage(name="guide", files=("guide.checkpoint",), keys=("data", "privacy", "guide", "sampler")),
        Stage(name="matching", files=("matching.checkpoint",), keys=("matching.share", "matching.layers")),
        Stage(name="shorten", files=("shorten.checkpoint",), keys=("shorten", "matching", "sampler")),
    )

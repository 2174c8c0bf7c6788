"""What `dpsad sketch` does: open the run, let the private side answer, keep the prototypes and what they have cost."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dpsad import build, build_sketch
from dpsad.config import DISTILLATION, FIXED, Config
from dpsad.data.clusters import Clusters, find_clusters
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sad.consult import consult
from dpsad.methods.dp_sad.prototypes import sketch
from dpsad.methods.dp_sad.shard_teachers import draw_from_shards
from dpsad.networks.stacked import Stacked
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.checkpoint import Checkpoint, load, save_atomic
from dpsad.runtime.run_folder import Log, Run, open_run
from dpsad.training.denoiser import teach
from students.base import Answers
from students.prototypes import Prototypes
from teachers.base import Teacher
from teachers.closed_form import ClosedFormTeachers
from teachers.shard_denoisers import ShardDenoisers

Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """What images are of: public facts that every stage needs."""

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    @staticmethod
    def of(images: ImageSet) -> "Subject":
        return Subject(images.image_shape, images.class_names)

    @staticmethod
    def from_dict(values: dict) -> "Subject":
        chan, height, width = values["image_shape"]
        return Subject((chan, height, width), tuple(values["class_names"]))

    def state_dict(self) -> dict:
        return {"image_shape": list(self.image_shape), "class_names": list(self.class_names)}


def load_records(config: Config, say: Say) -> ImageSet:
    """Reads the private records, by clusters where asked for, and warns where delta is too large for them."""
    records = load_images(config.data, "train")
    num_records = build.num_records_of(config, records)
    if config.privacy.delta >= 1 / num_records:
        say(
            f"warning: privacy.delta={config.privacy.delta:g} is not below 1/{num_records}; such a guarantee lets a "
            f"record be published whole now and then; use at most {0.1 / num_records:.0e}"
        )
    return label_by_clusters(config, records) if config.data.pseudo_labels else records


def label_by_clusters(config: Config, records: ImageSet) -> ImageSet:
    """The records under the pseudo-labels that the run's teacher goes by, which are kept in private/clusters.pt.

    Raises:
        ValueError: the teacher at `teacher.path` was taught without clusters, or with another number of them.
    """
    own, number = Path(config.run) / "private" / "clusters.pt", config.data.pseudo_labels
    taught = own if config.teacher.path is None else Path(config.teacher.path).with_name("clusters.pt")
    if not own.exists():
        if taught.exists():
            save_atomic(load(taught), own)
        elif taught == own:
            save_atomic(find_clusters(records, number).state_dict(), own)
        else:
            raise ValueError(
                f"data.pseudo_labels={number}, but there is no {taught}: the teacher knows no clusters; teach one with "
                "data.pseudo_labels, or pass data.pseudo_labels=0"
            )
    clusters = Clusters(**load(own))
    if len(clusters.centres) != number:
        raise ValueError(
            f"data.pseudo_labels={number}, but the teacher knows {len(clusters.centres)} clusters; pass that number"
        )
    return clusters.label(records)


def require_distillation(config: Config) -> None:
    """Refuses to distil in the run of a baseline."""
    if config.method != DISTILLATION:
        raise ValueError(
            f"method={config.method} is trained by `dpsad baseline run={config.run}`; pass method={DISTILLATION} and "
            "another run=... to distil"
        )


@dataclass(frozen=True)
class Sketched:
    """What the sketch has released, and what it has cost."""

    prototypes: Prototypes
    answers: Answers | None
    subject: Subject
    ledger: Ledger

    def state_dict(self) -> dict:
        return {name: part.state_dict() if part is not None else None for name, part in vars(self).items()}

    @staticmethod
    def of(state: dict, device: torch.device, ledger: Ledger) -> "Sketched":
        """Takes up a saved sketch; `ledger` is charged with what it has cost."""
        for purpose, plan in state["ledger"]["entries"]:
            ledger.charge(purpose, ReleasePlan.from_dict(plan), fixed_noise=state["ledger"]["fixed_noise"])
        answers = Answers(**state["answers"]).to(device) if state["answers"] is not None else None
        prototypes = Prototypes(**state["prototypes"]).to(device)
        return Sketched(prototypes, answers, Subject.from_dict(state["subject"]), ledger)


def run_sketch(config: Config, say: Say) -> Sketched:
    """Releases the run's prototypes, or takes up those that it has released."""
    require_distillation(config)
    run = open_run(config.run, config, FIXED)
    path = run.private / "sketch.pt"
    ledger = Ledger(config.privacy.epsilon, config.privacy.delta)
    device = build.device_of(config)
    if path.exists():
        return Sketched.of(load(path), device, ledger)
    records = load_records(config, say)
    num_records, subject = build.num_records_of(config, records), Subject.of(records)
    records = replace(records, images=records.images.to(device), labels=records.labels.to(device))
    randomness = PrivateRandomness(device, seed=config.privacy.noise_seed)
    generator = build.generator_of(config, "sketch", device)
    shards = (
        build.split_records(config, records, config.shards.num_shards).to(device)
        if config.guarantee == "shards"
        else None
    )
    plans = build_sketch.plans_of_sketch(config, num_records)
    log, answers = Log(run, "sketch", config.log), None
    with log.timed(build.hardware_of(device)) as seconds:
        prototypes = sketch(
            config.sketch,
            pulls=build_sketch.pulls_of_records(config, records)
            if shards is None
            else build_sketch.pulls_of_shards(config, records, shards, randomness),
            plans=plans,
            num_classes=records.num_classes,
            image_shape=records.image_shape,
            ledger=ledger,
            randomness=randomness,
            generator=generator,
        )
        if shards is not None and config.shards.teacher != "none":
            teachers = _shard_teachers(config, run, records, shards)
            prototypes, answers = consult(
                config.shards,
                count_share=config.sketch.count_share,
                pulls=build_sketch.pulls_of_teachers(config, records, teachers, randomness),
                plan=build_sketch.plan_of_consulting(config, records.num_classes, plans),
                start=prototypes,
                ledger=ledger,
                randomness=randomness,
                generator=generator,
            )
    sketched = Sketched(prototypes, answers, subject, ledger)
    save_atomic(sketched.state_dict(), path)
    log.public(prototypes=len(prototypes.labels), epsilon=ledger.spent())
    say(f"sketch: {len(prototypes.labels)} prototypes in {seconds():.1f} s, epsilon {ledger.spent():.3f} so far")
    return sketched


def _shard_teachers(config: Config, run: Run, records: ImageSet, shards: Shards) -> Teacher:
    """One teacher for each shard: trained side by side, or without training in closed form."""
    settings = config.shards
    if settings.teacher == "closed_form":
        return ClosedFormTeachers(records.images, records.labels, shards)
    taught = teach(
        "teach shards",
        replace(config.teacher, steps=settings.steps, batch_size=settings.num_shards * settings.batch_size),
        denoiser=Denoiser(build_sketch.build_shard_networks(config, records.image_shape, records.num_classes)),
        num_classes=records.num_classes,
        draw=draw_from_shards(records, shards, settings.batch_size),
        levels=build.lognormal_of(config.teacher),
        generator=build.generator_of(config, "teach shards", records.images.device),
        checkpoint=Checkpoint(run.private / "shards.checkpoint"),
        log=Log(run, "teach shards", config.log),
        precision=config.precision,
    )
    assert isinstance(taught.network, Stacked)
    return ShardDenoisers(taught.network)

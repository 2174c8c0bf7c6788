"""What each training command does: open the run, build its objects, call the stage, keep the result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dpsad import build, build_sketch
from dpsad.checkpoint import Checkpoint, load, save_atomic
from dpsad.config import FIXED, Config
from dpsad.config_files import flatten
from dpsad.data.clusters import Clusters, find_clusters
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.stacked import Stacked
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.statement import formal_statement, nominal_statement
from dpsad.release import export_release
from dpsad.runs import Log, Run, open_run
from dpsad.stages.consult import consult
from dpsad.stages.distill import distill
from dpsad.stages.nominal import reasons
from dpsad.stages.refine import refine
from dpsad.stages.shards import draw_from_shards
from dpsad.stages.sketch import sketch
from dpsad.stages.teach import teach
from students.base import Answers
from students.few_step import FewStepStudent
from students.prototypes import Prototypes
from teachers.base import Teacher
from teachers.closed_form import ClosedFormTeachers
from teachers.denoiser import DenoiserTeacher
from teachers.shard_denoisers import ShardDenoisers

Say = Callable[[str], None]
STUDENT_KEYS = ("student", "discriminator", "published", "refine")


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
    shards = build_sketch.split_records(config, records).to(device) if config.guarantee == "shards" else None
    start = time.perf_counter()
    prototypes = sketch(
        config.sketch,
        pulls=build_sketch.pulls_of_records(config, records)
        if shards is None
        else build_sketch.pulls_of_shards(config, records, shards, randomness),
        plans=build_sketch.plans_of_sketch(config, num_records),
        num_classes=records.num_classes,
        image_shape=records.image_shape,
        ledger=ledger,
        randomness=randomness,
        generator=generator,
    )
    answers = None
    if shards is not None and config.shards.teacher != "none":
        teachers = _shard_teachers(config, run, records, shards)
        prototypes, answers = consult(
            config.shards,
            count_share=config.sketch.count_share,
            pulls=build_sketch.pulls_of_teachers(config, records, teachers, randomness),
            plan=build_sketch.plan_of_consulting(config, records.num_classes),
            start=prototypes,
            ledger=ledger,
            randomness=randomness,
            generator=generator,
        )
    seconds = time.perf_counter() - start
    sketched = Sketched(prototypes, answers, subject, ledger)
    save_atomic(sketched.state_dict(), path)
    Log(run, "sketch").public(prototypes=len(prototypes.labels), epsilon=ledger.spent(), seconds=seconds)
    say(f"sketch: {len(prototypes.labels)} prototypes in {seconds:.1f} s, epsilon {ledger.spent():.3f} so far")
    return sketched


def _shard_teachers(config: Config, run: Run, records: ImageSet, shards: Shards) -> Teacher:
    """One teacher for each shard: trained side by side, or without training in closed form."""
    settings = config.shards
    if settings.teacher == "closed_form":
        return ClosedFormTeachers(records.images, records.labels, shards)
    taught = teach(
        replace(config.teacher, steps=settings.steps, batch_size=settings.num_shards * settings.batch_size),
        denoiser=Denoiser(build_sketch.build_shard_networks(config, records.image_shape, records.num_classes)),
        num_classes=records.num_classes,
        draw=draw_from_shards(records, shards, settings.batch_size),
        generator=build.generator_of(config, "teach shards", records.images.device),
        checkpoint=Checkpoint(run.private / "shards.checkpoint"),
        log=Log(run, "teach shards"),
        precision=config.precision,
    )
    assert isinstance(taught.network, Stacked)
    return ShardDenoisers(taught.network)


def run_teach(config: Config, say: Say) -> None:
    """Trains the run's teacher, or goes on where it stopped; the sketch comes first where it is learned from."""
    run = open_run(config.run, config, FIXED)
    path = run.private / "teacher.pt"
    if path.exists():
        say(f"teach: {path} is there already")
        return
    device = build.device_of(config)
    sketched = None
    if config.teacher.data == "sketch":
        sketched = run_sketch(config, say)
        provenance, subject = Provenance.RELEASED, sketched.subject
        draw = build.draw_from_prototypes(sketched.prototypes, config.augmentation, len(subject.class_names))
    else:
        private = config.teacher.data == "private"
        images = load_records(config, say) if private else load_images(config.public_data, "train")
        provenance, subject = (Provenance.PRIVATE if private else Provenance.PUBLIC), Subject.of(images)
        draw = build.draw_from_images(images, config.augmentation, device)
    start = time.perf_counter()
    denoiser = teach(
        config.teacher,
        denoiser=build.build_denoiser(config, subject.image_shape, len(subject.class_names), "teach"),
        num_classes=len(subject.class_names),
        draw=draw,
        generator=build.generator_of(config, "teach", device),
        checkpoint=Checkpoint(run.private / "teach.checkpoint"),
        log=Log(run, "teach"),
        precision=config.precision,
    )
    product = {
        "model": denoiser.state_dict(),
        "provenance": provenance.value,
        "network": flatten(config.network),
        "subject": subject.state_dict(),
        "sketch": sketched.state_dict() if sketched is not None else None,
    }
    save_atomic(product, path)
    say(f"teach: {config.teacher.steps} steps in {time.perf_counter() - start:.0f} s, provenance {provenance.value}")


def run_distill(config: Config, say: Say) -> None:
    """Distils the run's student, refines it with records where planned, and exports the release."""
    teacher, subject, sketched = read_teacher(config)
    ledger = sketched.ledger if sketched is not None else Ledger(config.privacy.epsilon, config.privacy.delta)
    build.check_teacher(config, teacher)
    begun = (Path(config.run) / "private" / "distill.checkpoint").exists()
    run = open_run(config.run, config, (*FIXED, *STUDENT_KEYS) if begun else FIXED)
    if (run.release / "privacy.json").exists():
        say(f"distill: {run.release} is there already")
        return
    device = build.device_of(config)
    records = load_records(config, say) if config.guarantee == "published" or config.refine.steps else None
    if records is not None and Subject.of(records) != subject:
        raise ValueError(
            f"the teacher makes images of shape {list(subject.image_shape)} in {len(subject.class_names)} classes, the "
            f"records are of shape {list(records.image_shape)} in {len(records.class_names)}; teach on such data"
        )
    critic = build.build_critic(config, subject.image_shape, len(subject.class_names))
    use_labels = config.student.use_labels
    student = build.build_denoiser(
        config, subject.image_shape, len(subject.class_names), "student", use_labels=use_labels
    )
    randomness = PrivateRandomness(device, seed=config.privacy.noise_seed)
    nominal = None
    if config.guarantee == "published":
        assert records is not None
        nominal = build.nominal_plan_of(config, build.num_records_of(config, records))
        say("warning: guarantee=published is NOT a formal privacy guarantee; the epsilon of this run is nominal")
        draw = build.draw_from_images(records, config.augmentation, device)
    elif sketched is not None:
        draw = build.draw_from_prototypes(sketched.prototypes, config.augmentation, len(subject.class_names))
    else:
        draw = build.draw_from_images(load_images(config.public_data, "train"), config.augmentation, device)
    start = time.perf_counter()
    student = distill(
        config.student,
        student=build.student_start(config, student, teacher.denoiser),
        teacher=teacher,
        critic=critic,
        draw=draw,
        answers=sketched.answers if sketched is not None else None,
        levels=build.distillation_levels(config, device),
        sanitize=build.output_sanitizer(config, nominal.noise_multiplier if nominal else 0.0, randomness),
        generator=build.generator_of(config, "distill", device),
        checkpoint=Checkpoint(run.private / "distill.checkpoint"),
        log=Log(run, "distill"),
        precision=config.precision,
    )
    say(f"distill: {config.student.steps} steps in {time.perf_counter() - start:.0f} s")
    if config.guarantee != "published" and config.refine.steps:
        assert records is not None
        student = _refine(config, run, student, records, ledger, randomness, say)
    few_step = FewStepStudent(student, config.sampler, subject.image_shape, subject.class_names, use_labels=use_labels)
    public_size = config.privacy.num_records == 0 and records is not None
    if nominal is not None:
        statement = nominal_statement(nominal, config.privacy.epsilon, config.privacy.delta, reasons(config.published))
    else:
        statement = formal_statement(ledger, guarantee=config.guarantee, size_is_public=public_size)
    export_release(run.release, few_step, config.network, statement)
    say(f"release: {run.release}")


def _refine(
    config: Config,
    run: Run,
    student: Denoiser,
    records: ImageSet,
    ledger: Ledger,
    randomness: PrivateRandomness,
    say: Say,
) -> Denoiser:
    num_records = build.num_records_of(config, records)
    plan = build.refine_plan(config, num_records, ledger.entries)
    start = time.perf_counter()
    refined = refine(
        config.refine,
        student=student.requires_grad_(True),
        records=records,
        sanitizer=Sanitizer(plan, ledger, build.REFINE, randomness),
        expected_batch_size=plan.sampling_prob * num_records,
        randomness=randomness,
        checkpoint=Checkpoint(run.private / "refine.checkpoint", every_seconds=0),
        log=Log(run, "refine"),
        precision=config.precision,
    )
    say(
        f"refine: {config.refine.steps} steps of {config.refine.batch_size} records, noise multiplier "
        f"{plan.noise_multiplier:.3f}, in {time.perf_counter() - start:.0f} s; epsilon {ledger.spent():.3f}"
    )
    return refined


def read_teacher(config: Config) -> tuple[DenoiserTeacher, Subject, Sketched | None]:
    """Loads the run's teacher, or the one at `teacher.path`, with the sketch it learned from and what that has cost.

    Raises:
        ValueError: there is none, or it has another shape than `network` says.
        BudgetExceeded: it has cost more than this run may spend.
    """
    path = Path(config.teacher.path or Path(config.run) / "private" / "teacher.pt")
    if not path.exists():
        raise ValueError(f"no teacher at {path}; run `dpsad teach run={config.run}` first, or pass teacher.path=...")
    device = build.device_of(config)
    saved = load(path, map_location=device)
    if saved["network"] != flatten(config.network):
        raise ValueError(
            f"the teacher at {path} was built with network={saved['network']}, this run has {flatten(config.network)}; "
            "give the run the teacher's network, or teach another"
        )
    subject = Subject.from_dict(saved["subject"])
    denoiser = build.build_denoiser(config, subject.image_shape, len(subject.class_names), "teach")
    denoiser.load_state_dict(saved["model"])
    ledger = Ledger(config.privacy.epsilon, config.privacy.delta)
    sketched = Sketched.of(saved["sketch"], device, ledger) if saved["sketch"] is not None else None
    return DenoiserTeacher(denoiser, Provenance(saved["provenance"])), subject, sketched

"""What each training command does: open the run, build its objects, call the stage, keep the result."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpsad import build
from dpsad.checkpoint import Checkpoint, load, save_atomic
from dpsad.config import BASELINES, DISTILLATION, FIXED, Config
from dpsad.config_files import flatten
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.statement import nominal_statement, records_statement
from dpsad.release import export_release
from dpsad.runs import Log, Run, open_run
from dpsad.stages.baseline import baseline
from dpsad.stages.distill import distill
from dpsad.stages.nominal import REASONS
from dpsad.stages.refine import refine
from dpsad.stages.sketch import sketch
from dpsad.stages.teach import teach
from students.few_step import FewStepStudent
from students.prototypes import Prototypes
from teachers.denoiser import DenoiserTeacher

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

    def to_dict(self) -> dict:
        return {"image_shape": list(self.image_shape), "class_names": list(self.class_names)}


def load_records(config: Config, say: Say) -> ImageSet:
    """Reads the private records, and warns where delta is too large for them."""
    records = load_images(config.data, "train")
    num_records = build.num_records_of(config, records)
    if config.privacy.delta >= 1 / num_records:
        say(
            f"warning: privacy.delta={config.privacy.delta:g} is not below 1/{num_records}; such a guarantee lets a "
            f"record be published whole now and then; use at most {0.1 / num_records:.0e}"
        )
    return records


def run_sketch(config: Config, say: Say) -> tuple[Prototypes, Subject, Ledger]:
    """Releases the run's prototypes, or takes up those that it has released."""
    _require_distillation(config)
    run = open_run(config.run, config, FIXED)
    path = run.private / "sketch.pt"
    ledger = Ledger(config.privacy.epsilon, config.privacy.delta)
    device = build.device_of(config)
    if path.exists():
        saved = load(path)
        ledger.load_state_dict(saved["ledger"])
        return Prototypes(**saved["prototypes"]).to(device), Subject.from_dict(saved["subject"]), ledger
    records = load_records(config, say)
    start = time.perf_counter()
    prototypes = sketch(
        config.sketch,
        records=records,
        device=device,
        mu=build.sketch_mu(config),
        ledger=ledger,
        randomness=PrivateRandomness(device, seed=config.privacy.noise_seed),
        generator=build.generator_of(config, "sketch", device),
    )
    seconds = time.perf_counter() - start
    subject = Subject.of(records)
    save_atomic(
        {"prototypes": prototypes.state_dict(), "subject": subject.to_dict(), "ledger": ledger.state_dict()}, path
    )
    Log(run, "sketch").public(prototypes=len(prototypes.labels), epsilon=ledger.spent(), seconds=seconds)
    say(f"sketch: {len(prototypes.labels)} prototypes in {seconds:.1f} s, epsilon {ledger.spent():.3f} so far")
    return prototypes, subject, ledger


def run_teach(config: Config, say: Say) -> None:
    """Trains the run's teacher, or goes on where it stopped; the sketch comes first where it is learned from."""
    _require_distillation(config)
    run = open_run(config.run, config, FIXED)
    path = run.private / "teacher.pt"
    if path.exists():
        say(f"teach: {path} is there already")
        return
    device = build.device_of(config)
    ledger, prototypes = Ledger(config.privacy.epsilon, config.privacy.delta), None
    if config.teacher.data == "sketch":
        prototypes, subject, ledger = run_sketch(config, say)
        provenance = Provenance.RELEASED
        draw = build.draw_from_prototypes(prototypes, config.augmentation, len(subject.class_names))
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
        "subject": subject.to_dict(),
        "ledger": ledger.state_dict(),
        "prototypes": prototypes.state_dict() if prototypes is not None else None,
    }
    save_atomic(product, path)
    say(f"teach: {config.teacher.steps} steps in {time.perf_counter() - start:.0f} s, provenance {provenance.value}")


def run_distill(config: Config, say: Say) -> None:
    """Distils the run's student, refines it with records where planned, and exports the release."""
    _require_distillation(config)
    teacher, prototypes, subject, ledger = read_teacher(config)
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
    student = build.build_denoiser(config, subject.image_shape, len(subject.class_names), "student")
    randomness = PrivateRandomness(device, seed=config.privacy.noise_seed)
    nominal = None
    if config.guarantee == "published":
        assert records is not None
        nominal = build.nominal_plan_of(config, build.num_records_of(config, records))
        say("warning: guarantee=published is NOT a formal privacy guarantee; the epsilon of this run is nominal")
        draw = build.draw_from_images(records, config.augmentation, device)
    elif prototypes is not None:
        draw = build.draw_from_prototypes(prototypes, config.augmentation, len(subject.class_names))
    else:
        draw = build.draw_from_images(load_images(config.public_data, "train"), config.augmentation, device)
    start = time.perf_counter()
    student = distill(
        config.student,
        student=build.student_start(config, student, teacher.denoiser),
        teacher=teacher,
        critic=critic,
        draw=draw,
        levels=build.distillation_levels(config, device),
        sanitize=build.output_sanitizer(config, nominal.noise_multiplier if nominal else 0.0, randomness),
        generator=build.generator_of(config, "distill", device),
        checkpoint=Checkpoint(run.private / "distill.checkpoint"),
        log=Log(run, "distill"),
        precision=config.precision,
    )
    say(f"distill: {config.student.steps} steps in {time.perf_counter() - start:.0f} s")
    if config.guarantee == "records" and config.refine.steps:
        assert records is not None
        student = _refine(config, run, student, records, ledger, randomness, say)
    few_step = FewStepStudent(student, config.sampler, subject.image_shape, subject.class_names)
    public_size = config.privacy.num_records == 0 and records is not None
    if nominal is not None:
        statement = nominal_statement(nominal, config.privacy.epsilon, config.privacy.delta, REASONS)
    else:
        statement = records_statement(ledger, size_is_public=public_size)
    export_release(run.release, few_step, config.network, {**statement, "method": config.method})
    say(f"release: {run.release}")


def run_baseline(config: Config, say: Say) -> None:
    """Trains the run's baseline on records, or goes on where it stopped, and exports the release."""
    if config.method == DISTILLATION:
        raise ValueError(f"method={config.method} is no baseline; pass method={' or '.join(BASELINES)}")
    begun = (Path(config.run) / "private" / "baseline.checkpoint").exists()
    run = open_run(config.run, config, (*FIXED, "baseline") if begun else FIXED)
    if (run.release / "privacy.json").exists():
        say(f"baseline: {run.release} is there already")
        return
    records = load_records(config, say)
    subject, num_records = Subject.of(records), build.num_records_of(config, records)
    plan = build.baseline_plan(config, num_records)
    ledger = Ledger(config.privacy.epsilon, config.privacy.delta)
    randomness = PrivateRandomness(build.device_of(config), seed=config.privacy.noise_seed)
    parameterisation = config.baseline.parameterisation
    start = time.perf_counter()
    denoiser = baseline(
        config.baseline,
        denoiser=build.build_denoiser(
            config, subject.image_shape, len(subject.class_names), "baseline", parameterisation
        ),
        levels=build.baseline_levels(config),
        records=records,
        sanitizer=Sanitizer(plan, ledger, build.baseline_purpose(config), randomness),
        expected_batch_size=plan.sampling_prob * num_records,
        randomness=randomness,
        checkpoint=Checkpoint(run.private / "baseline.checkpoint", every_seconds=0),
        log=Log(run, "baseline"),
        precision=config.precision,
    )
    say(
        f"{config.method}: {plan.num_releases} steps of {config.baseline.batch_size} records, noise multiplier "
        f"{plan.noise_multiplier:.3f}, in {time.perf_counter() - start:.0f} s; epsilon {ledger.spent():.3f}"
    )
    few_step = FewStepStudent(denoiser, config.sampler, subject.image_shape, subject.class_names)
    statement = records_statement(ledger, size_is_public=config.privacy.num_records == 0)
    export_release(
        run.release,
        few_step,
        config.network,
        {**statement, "method": config.method},
        parameterisation=parameterisation,
    )
    say(f"release: {run.release}")


def _require_distillation(config: Config) -> None:
    if config.method != DISTILLATION:
        raise ValueError(
            f"method={config.method} is trained by `dpsad baseline run={config.run}`; pass method={DISTILLATION} and "
            "another run=... to distil"
        )


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


def read_teacher(config: Config) -> tuple[DenoiserTeacher, Prototypes | None, Subject, Ledger]:
    """Loads the run's teacher, or the one at `teacher.path`, with the prototypes it learned from and what it has cost.

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
    for purpose, plan in saved["ledger"]["entries"]:
        ledger.charge(purpose, ReleasePlan.from_dict(plan), fixed_noise=saved["ledger"]["fixed_noise"])
    prototypes = Prototypes(**saved["prototypes"]) if saved["prototypes"] is not None else None
    return DenoiserTeacher(denoiser, Provenance(saved["provenance"])), prototypes, subject, ledger

"""What each training command does: open the run, build its objects, call the stage, keep the result."""

from pathlib import Path

from dpsad import build
from dpsad.checkpoint import Checkpoint, save_atomic
from dpsad.config import FIXED, Config
from dpsad.data.sources import load_images
from dpsad.denoiser_files import denoiser_state, read_denoiser
from dpsad.fitting import fit_to_records
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.statement import formal_statement, nominal_statement
from dpsad.release import export_release
from dpsad.runs import Log, open_run
from dpsad.sketching import Say, Sketched, Subject, load_records, require_distillation, run_sketch
from dpsad.stages.distill import distill
from dpsad.stages.nominal import reasons
from dpsad.stages.teach import teach
from teachers.denoiser import DenoiserTeacher

STUDENT_KEYS = ("student", "discriminator", "published", "refine")


def run_teach(config: Config, say: Say) -> None:
    """Trains the run's teacher, or goes on where it stopped; the sketch comes first where it is learned from."""
    require_distillation(config)
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
    log = Log(run, "teach", config.log)
    with log.timed(build.hardware_of(device)) as seconds:
        denoiser = teach(
            "teach",
            config.teacher,
            denoiser=build.build_denoiser(config, subject.image_shape, len(subject.class_names), "teach"),
            num_classes=len(subject.class_names),
            draw=draw,
            levels=build.lognormal_of(config.teacher),
            generator=build.generator_of(config, "teach", device),
            checkpoint=Checkpoint(run.private / "teach.checkpoint"),
            log=log,
            precision=config.precision,
        )
    product = {
        **denoiser_state(denoiser, config, provenance, subject),
        "sketch": sketched.state_dict() if sketched is not None else None,
    }
    save_atomic(product, path)
    say(f"teach: {config.teacher.steps} steps in {seconds():.0f} s, provenance {provenance.value}")


def run_distill(config: Config, say: Say) -> None:
    """Distils the run's student, refines it with records where planned, and exports the release."""
    require_distillation(config)
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
    discriminator = build.build_discriminator(config, subject.image_shape, len(subject.class_names))
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
    log = Log(run, "distill", config.log)
    with log.timed(build.hardware_of(device)) as seconds:
        student = distill(
            config.student,
            student=build.student_start(config, student, teacher.denoiser),
            teacher=teacher,
            discriminator=discriminator,
            draw=draw,
            answers=sketched.answers if sketched is not None else None,
            penalty_weight=config.discriminator.gradient_penalty,
            feature_weight=config.discriminator.feature_matching,
            levels=build.distillation_levels(config, device),
            sanitize=build.output_sanitizer(config, nominal.noise_multiplier if nominal else 0.0, randomness),
            generator=build.generator_of(config, "distill", device),
            checkpoint=Checkpoint(run.private / "distill.checkpoint"),
            log=log,
            precision=config.precision,
        )
    say(f"distill: {config.student.steps} steps in {seconds():.0f} s")
    if config.guarantee != "published" and config.refine.steps:
        assert records is not None
        student = fit_to_records(
            config,
            run,
            "refine",
            config.refine,
            purpose=build.REFINE,
            denoiser=student.requires_grad_(True),
            levels=build.lognormal_of(config.refine),
            label_dropout=0.0,
            records=records,
            ledger=ledger,
            randomness=randomness,
            say=say,
        )
    prototypes = sketched.prototypes if sketched is not None else None
    made = build.releasable_student(config, student, subject.image_shape, subject.class_names, prototypes)
    public_size = config.privacy.num_records == 0 and records is not None
    if nominal is not None:
        statement = nominal_statement(nominal, config.privacy.epsilon, config.privacy.delta, reasons(config.published))
    else:
        statement = formal_statement(ledger, guarantee=config.guarantee, size_is_public=public_size)
    export_release(run.release, made, {**statement, "method": config.method})
    say(f"release: {run.release}")


def read_teacher(config: Config) -> tuple[DenoiserTeacher, Subject, Sketched | None]:
    """Loads the run's teacher, or the one at `teacher.path`, with the sketch it learned from and what that has cost.

    Raises:
        ValueError: there is none, or it has another shape than `network` says.
        BudgetExceeded: it has cost more than this run may spend.
    """
    path = Path(config.teacher.path or Path(config.run) / "private" / "teacher.pt")
    if not path.exists():
        raise ValueError(f"no teacher at {path}; run `dpsad teach run={config.run}` first, or pass teacher.path=...")
    denoiser, provenance, subject, saved = read_denoiser(path, config)
    ledger = Ledger(config.privacy.epsilon, config.privacy.delta)
    device = build.device_of(config)
    sketched = Sketched.of(saved["sketch"], device, ledger) if saved["sketch"] is not None else None
    return DenoiserTeacher(denoiser, provenance), subject, sketched

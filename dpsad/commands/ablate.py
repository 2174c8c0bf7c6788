"""Runs an ablation: every cell is an ordinary run in a folder of its own, and all are measured alike."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from dpsad.api.config import Config
from dpsad.api.settled import ALWAYS, require_own
from dpsad.commands.ablations import Ablation
from dpsad.commands.distill import run_distill
from dpsad.commands.evaluate import evaluate_run, require_measurable
from dpsad.commands.reporting import Found
from dpsad.commands.teach import run_teach
from dpsad.errors import reading
from dpsad.evaluation.result import EvaluationResult
from dpsad.methods.dp_sad.stages import SKETCH, TEACH
from dpsad.report.ablation import Row, plot, to_csv, to_markdown
from dpsad.runtime.config_files import differences
from dpsad.runtime.device import device_named
from dpsad.runtime.json_files import read_json
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import Run, open_run
from dpsad.runtime.whole_files import PRIVATE, whole, write_whole

Read = Callable[[Sequence[str]], Config]  # further key=value -> the config with them


def run_ablation(ablation: Ablation, read: Read, *, num: int, seed: int, say: Say) -> Found:
    """Trains and measures every cell, and writes a table and a plot to the run folder's private/.

    The same command goes on where it was stopped: cells resume, and those that are done are not done again. The teacher
    is trained once, in the run folder itself, for all cells that change nothing that it depends on.

    Args:
        ablation: what differs.
        read: gives the config of the command, with what a cell changes; its `run` holds everything.
        num, seed: as for `evaluate_run`.
        say: receives what happens.

    Returns:
        The table, as Markdown, and its rows.

    Raises:
        ValueError: a config that cannot be, before anything is trained; no cell could be run.
    """
    base = read(())
    if ablation.needs not in (None, base.guarantee):
        raise ValueError(
            f"ablation {ablation.name!r} needs guarantee={ablation.needs}: {ablation.axis} does nothing with "
            f"guarantee={base.guarantee}; use --config mnist-nominal, or pass guarantee={ablation.needs}"
        )
    configs = {cell: cell_config(ablation, cell, base, read) for cell in ablation.cells}
    device_named(base.device)  # refused before a folder is made; each cell's run looks again
    require_measurable(base, ["cnn"])
    require_own(Run(Path(base.run)), base)
    run = open_run(base.run, base)
    if base.teacher.path is None and any(config.teacher.path for config in configs.values()):
        run_teach(base, say)
    rows: list[Row] = []
    for cell, config in configs.items():
        say(f"{ablation.name}: {ablation.axis} = {cell}")
        rows.append(run_cell(cell, config, run, num=num, seed=seed, say=say))
        write(ablation, rows, run)
    if all(row.formal is None for row in rows):
        raise ValueError(f"no cell of {ablation.name!r} could be run; the first said: {rows[0].note}")
    table = to_markdown(ablation.name, ablation.shows, ablation.axis, rows)
    facts = {"ablation": ablation.name, "axis": ablation.axis, "rows": [asdict(row) for row in rows]}
    return Found(text=table, facts=facts)


def cell_config(ablation: Ablation, cell: str, base: Config, read: Read) -> Config:
    """A cell's config: in a folder below the run's, and with the run's teacher unless it would be another one."""
    folder = Path(base.run) / ablation.name / cell.replace(", ", "-").replace(" ", "-")
    changes = [*ablation.cells[cell], f"run={folder}"]
    config = read(changes)
    if base.teacher.path is not None or differences(base, config, (*ALWAYS, *_of_teacher(base))):
        return config
    return read([*changes, f"teacher.path={Run(Path(base.run)).teacher}"])


def _of_teacher(config: Config) -> list[str]:
    """Keys and sections that a teacher depends on."""
    stages = config.trained_by().stages(config.settings())
    return [key for stage in stages if stage.name in (SKETCH, TEACH) for key in stage.keys]


def run_cell(cell: str, config: Config, run: Run, *, num: int, seed: int, say: Say) -> Row:
    """Trains and measures one cell. One that cannot be run says so in its row, and does not stop the others."""
    try:
        seconds = trained(config, say)
        result = measured(config, run, num=num, seed=seed, say=say)
    except ValueError as error:
        say(f"warning: {cell}: {error}")
        return Row(setting=cell, note=str(error))
    student, privacy = result.student, result.privacy or {}
    epsilon = privacy["epsilon"] if privacy["epsilon"] is not None else privacy.get("nominal_epsilon")
    return Row(
        setting=cell,
        accuracy=student.classifiers["cnn"].accuracy if "cnn" in student.classifiers else None,
        frechet=student.frechet,
        epsilon=epsilon,
        delta=privacy["delta"],
        formal=privacy["formal"],
        seconds=seconds,
        note=result.no_classifiers or "",
    )


def trained(config: Config, say: Say) -> float | None:
    """Teaches where the cell has no teacher yet, and distils.

    Returns:
        Seconds, over all the times that it went on; None where one of them was killed and its seconds are lost.
    """
    require_own(Run(Path(config.run)), config)
    clock = open_run(config.run, config).private / "seconds.json"
    before = json.loads(clock.read_text(encoding="utf-8")) if clock.exists() else 0.0
    write_whole(clock, "null")
    start, seconds = time.perf_counter(), None
    try:
        if config.teacher.path is None:
            run_teach(config, say)
        run_distill(config, say)
    finally:
        if before is not None:
            seconds = before + time.perf_counter() - start
        write_whole(clock, json.dumps(seconds))
    return seconds


def measured(config: Config, run: Run, *, num: int, seed: int, say: Say) -> EvaluationResult:
    """The cell's evaluation by the CNN, or the one that it has already for the same number and seed.

    All cells are measured in one feature space: the first to need the reference classifier trains it for the others.
    """
    own = Run(Path(config.run))
    if own.evaluation.exists():
        with reading(own.evaluation):
            result = EvaluationResult.from_dict(read_json(own.evaluation))
        kinds = {"cnn"} if not result.no_classifiers else set()
        alike = result.environment and (result.student.num_images, result.environment.seed) == (num, seed)
        if alike and kinds <= result.student.classifiers.keys():
            return result
    _copy_once(run.reference_classifier, own.reference_classifier)
    result = evaluate_run(config, num=num, seed=seed, say=say, classifiers=["cnn"], compare=False)
    _copy_once(own.reference_classifier, run.reference_classifier)
    return result


def _copy_once(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        with whole(target, PRIVATE) as file:
            file.write(source.read_bytes())


def write(ablation: Ablation, rows: Sequence[Row], run: Run) -> None:
    """Writes <name>.csv, <name>.md and <name>.png."""
    path = run.private / ablation.name
    path.with_suffix(".csv").write_text(to_csv(rows), encoding="utf-8")
    page = to_markdown(ablation.name, ablation.shows, ablation.axis, rows)
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    plot(ablation.name, ablation.axis, rows, path.with_suffix(".png"))

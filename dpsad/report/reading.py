"""Reads what a finished run has recorded about itself. Trains nothing and measures nothing."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpsad.audit.result import AuditResult
from dpsad.evaluation.result import EvaluationResult, memorisation_line
from dpsad.runtime.config_files import flatten, read_mapping
from dpsad.runtime.json_files import read_json
from dpsad.runtime.run_folder import CONFIG, METRICS, STATEMENT, Run
from dpsad.runtime.whole_files import read_whole_folder


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run in a comparison.

    name: what it is called there.
    method, guarantee: what made it, such as dp-sad, and the guarantee that it was made under.
    data: what it learned from and is tested on; runs of different data do not compare.
    epsilon: of a formal guarantee, else None.
    nominal_epsilon: a number of that name, or one that does not hold; else None.
    reasons: why the guarantee is not formal, if so.
    class_names, image_shape: of its images.
    audited_epsilon: the largest lower bound that an audit of this release has measured, which is private; else None.
    refuted: whether an audit contradicts the epsilon, be it formal or nominal.
    labelled: whether an image is made for a class; without, columns of its picture are none.
    evaluation: private/evaluation.json, which is private; None where there is none.
    closer_to_training: whether its samples lie closer to training than to held-out images; None where not asked for.
    memorisation: the same as a sentence.
    settings: its config by dotted key, as the run has it.
    stage_seconds: wall time of every stage that wrote it down.
    hardware: what it was trained on, and evaluated on where that differs; "" where neither is recorded.
    notes: what is missing, and how to get it.
    """

    run: Run
    name: str
    method: str
    guarantee: str
    data: str
    formal: bool
    epsilon: float | None
    nominal_epsilon: float | None
    delta: float
    adjacency: str
    unit: tuple[str, ...]
    reasons: tuple[str, ...]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    labelled: bool
    audited_epsilon: float | None
    refuted: bool
    evaluation: EvaluationResult | None
    closer_to_training: bool | None
    memorisation: str | None
    settings: Mapping[str, Any]
    images_per_second: float | None
    stage_seconds: Mapping[str, float]
    hardware: str
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What kind of run it is, such as "dp-sad, records"."""
        return f"{self.method}, {self.guarantee}"

    @property
    def training_minutes(self) -> float | None:
        """Of all stages; None where only the sketch, or nothing, was timed."""
        timed = set(self.stage_seconds) - {"sketch"}
        return sum(self.stage_seconds.values()) / 60 if timed else None


def read_runs(folders: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Reads every run that can be read.

    Returns:
        The runs, in the order given and each once, and a line for each folder that was left out.
    """
    by_place = {Path(os.path.realpath(folder)): folder for folder in folders}
    parent = Path(os.path.commonpath([place.parent for place in by_place])) if by_place else Path()
    results, left_out = [], []
    for place, folder in by_place.items():
        try:
            results.append(read_run(folder, place.relative_to(parent).as_posix()))
        except (ValueError, OSError) as error:
            left_out.append(str(error))
    return results, left_out


def read_run(folder: Path, name: str) -> Result:
    """Reads one run.

    Raises:
        ValueError: it is no run, has no release, or a file of it is damaged; names the file.
    """
    run = Run(folder)
    if not run.config.is_file():
        raise ValueError(f"{folder} is no run: it has no config.yaml")
    config = read_mapping(run.config)
    if not run.statement.is_file():
        raise ValueError(f"{folder} has no release/privacy.json; finish it with `dpsad distill run={folder}`")
    statement, recipe = read_whole_folder(
        run.release, lambda release: (read_json(release / STATEMENT), read_mapping(release / CONFIG))
    )
    recorded = read_json(run.evaluation) if run.evaluation.is_file() else None
    audits = read_json(run.audit) if run.audit.is_file() else None
    timings = _timings(run)
    try:
        measured = EvaluationResult.from_dict(recorded) if recorded is not None else None
        memorisation = measured.memorisation if measured is not None else None
        notes = []
        if measured is None:
            notes.append(f"not evaluated: `dpsad evaluate {folder}` is missing")
        elif measured.privacy != statement:
            notes.append(f"evaluated before its release was made anew; run `dpsad evaluate {folder}` again")
        audit = AuditResult.from_dict(audits) if audits is not None else AuditResult()
        if audit.privacy not in (None, statement):
            notes.append(f"audited before its release was made anew; run `dpsad audit {folder}` again")
            audit = AuditResult()
        if measured and measured.no_classifiers:
            notes.append(f"no classifier was trained: {measured.no_classifiers}")
        if (config.get("teacher") or {}).get("path"):
            notes.append("its teacher comes from another run, whose minutes are not counted")
        epsilon, nominal = _number(statement, "epsilon"), _number(statement, "nominal_epsilon")
        formal = statement["formal"] is True
        if formal and epsilon is None:
            raise ValueError("a formal statement without an epsilon")
        chan, height, width = map(int, recipe["image_shape"])
        return Result(
            run=run,
            name=name,
            method=_name_today(str(config.get("method") or "dp-sad")),  # the only one before configs named it
            guarantee=_name_today(str(statement["guarantee"])),
            data=_data_name(config["data"], run),
            formal=formal,
            epsilon=epsilon if formal else None,
            nominal_epsilon=None if formal else nominal if nominal is not None else epsilon,
            delta=float(statement["delta"]),
            adjacency=str(statement["adjacency"]),
            unit=tuple(map(str, statement["unit"])),
            reasons=tuple(map(str, statement["reasons"])),
            class_names=tuple(map(str, recipe["class_names"])),
            image_shape=(chan, height, width),
            labelled=recipe.get("use_labels") is not False,
            audited_epsilon=audit.epsilon,
            refuted=audit.refuted,
            evaluation=measured,
            closer_to_training=bool(memorisation["closer_to_training"]) if memorisation else None,
            memorisation=memorisation_line(memorisation) if memorisation else None,
            settings=flatten(config),
            images_per_second=measured.sampling_images_per_second if measured is not None else None,
            stage_seconds=_seconds_by_stage(timings),
            hardware=_hardware(timings, measured.hardware if measured is not None else ""),
            notes=tuple(notes),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{folder} cannot be read: its config.yaml, release/, private/evaluation.json or private/audit.json is "
            f"not as dpsad writes it ({type(error).__name__}: {error})"
        ) from error


def _name_today(name: str) -> str:
    """What a method or guarantee is called now; runs from before version 0.2 have other names."""
    return {"distillation": "dp-sad", "published": "nominal"}.get(name, name)


def _timings(run: Run) -> list[dict[str, Any]]:
    """Lines with seconds of the run's metrics, public and private. A line that a crash cut short is passed over."""
    timings = []
    for folder in (run.path, run.private):
        path = folder / METRICS
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict) and "seconds" in values:
                timings.append(values)
    return timings


def _seconds_by_stage(timings: Sequence[dict[str, Any]]) -> dict[str, float]:
    """A stage that was stopped and went on has several lines, which add up."""
    total: dict[str, float] = {}
    for line in timings:
        stage = str(line["stage"])
        total[stage] = total.get(stage, 0.0) + float(line["seconds"])
        if not math.isfinite(total[stage]):
            raise ValueError(f"seconds of {stage} are no number")
    return total


def _hardware(timings: Sequence[dict[str, Any]], sampled: str) -> str:
    trained = ", ".join(dict.fromkeys(str(line["hardware"]) for line in timings if "hardware" in line))
    return f"{trained}; sampled on {sampled}" if trained and sampled not in ("", trained) else trained or sampled


def _number(values: Mapping[str, Any], key: str) -> float | None:
    return None if values.get(key) is None else float(values[key])


def _data_name(data: Mapping[str, Any], run: Run) -> str:
    """Everything that decides which images a run has, but not where this machine keeps a named set."""
    source = str(data["source"])
    if source == "memory":  # images that a program held are known by their fingerprint alone
        return f"{source} {run.begun_with[:8]}"
    subject = {"torchvision": data.get("name"), "folder": data.get("path"), "npz": data.get("path")}.get(source, source)
    size, limit = data.get("image_size"), data.get("limit")
    parts = [
        str(subject),
        f"{size}x{size}" if size else "",
        "grey" if data.get("grey") else "",
        "colour" if data.get("colour") else "",
        f"a share of {share:g}" if (share := data.get("share", 1)) < 1 else "",
        f"at most {limit} records" if limit else "",
    ]
    return ", ".join(part for part in parts if part)

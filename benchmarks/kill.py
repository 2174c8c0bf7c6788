"""Stages killed at random moments and gone on with by the same command: python benchmarks/kill.py --minutes 40

Every point takes a stage of a small run on the embedded digits, kills it (SIGKILL) at a random moment of the time that
it takes, runs the same command again, kills that, and so on until it ends. With --full-disk, files may not grow beyond
a random size instead (RLIMIT_FSIZE): the command must end with an error in a line, and go on once they may. Half of the
points have fixed noise, and must end as an uninterrupted run does, bit for bit; half have secret noise, and must make
every planned release once: what is drawn again is the same.

Goes on where it was stopped; `--folder` keeps what was found. Needs fork, and so Linux or macOS.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import runpy
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dpsad.commands import baseline, distill, sketch, teach  # noqa: F401 (once, for all that are forked)
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import load
from dpsad.runtime.context import Context
from dpsad.runtime.run_folder import Run
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from dpsad.runtime.whole_files import is_temporary

DIGITS = ("--config", "digits", "data.share=0.144", "privacy.num_records=200", "network.channels=8", "sampler.steps=2",
          "teacher.steps=60", "student.steps=60", "student.batch_size=16", "teacher.batch_size=16", "device=cpu",
          )  # fmt: skip
REFINED = ("refine.steps=10", "refine.batch_size=40")
GUIDED = ("refine.steps=0", "guide.share=0.3", "guide.steps=12", "guide.images=100", "guide.features=[scattering]")
SHARDS = ("guarantee=shards", "shards.num_shards=8", "shards.teacher=denoisers", "shards.steps=30",
          "shards.batch_size=4", "refine.steps=0")  # fmt: skip
GS_WGAN = ("method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=8", "gs_wgan.shards_per_step=4",
           "gs_wgan.steps=8", "gs_wgan.batch_size=6", "gs_wgan.critic_batch_size=4", "gs_wgan.critic_steps=2",
           "gs_wgan.warm_steps=3", "gs_wgan.generator.channels=4")  # fmt: skip
# stage: verbs that come before it, its own, and what all are told
STAGES: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "sketch": ((), "sketch", REFINED),
    "teach": (("sketch",), "teach", REFINED),
    "distill": (("teach",), "distill", ("refine.steps=0",)),
    "refine": (("teach",), "distill", (*REFINED, "student.steps=0")),
    "guide": (("teach",), "distill", (*GUIDED, "student.steps=0")),
    "dpdm": ((), "baseline", ("method=dpdm", "baseline.steps=10", "baseline.batch_size=40")),
    "dp-merf": ((), "baseline", ("method=dp-merf", "dp_merf.num_features=200", "dp_merf.step_features=100",
                                 "dp_merf.steps=150", "dp_merf.batch_size=20", "dp_merf.generator.channels=2")),
    "gs-wgan": ((), "baseline", GS_WGAN),
    "shards": ((), "sketch", SHARDS),
}  # fmt: skip
SEEDS = {"fixed": ("privacy.noise_seed=1",), "secret": ()}
OFTEN = 0.02  # seconds between the saves of stages that save by the clock, which are too short for it otherwise
MOST = 12  # kills of a point; then it may end


@dataclass
class Found:
    """What came of one point."""

    stage: str
    noise: str
    kills: int = 0
    went_on: int = 0
    differing: int = 0
    budgets: int = 0
    uncommitted: int = 0
    drawn_twice: int = 0
    said: str = ""


def attempt(words: tuple[str, ...], drawn: Path, *, seconds: float = 1e9, most: int | None = None) -> tuple[int, str]:
    """Runs a command in a child that is killed after `seconds`, or whose files have `most` bytes; its code and stderr.

    Args:
        drawn: receives a line for each release that is drawn: its plan, its place in it, and what it was.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.argv = ["dpsad", *words]
        note = os.open(drawn, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        release = Sanitizer.release

        def noted(self: Sanitizer, *told: Any) -> torch.Tensor:
            released = release(self, *told)
            was = hashlib.sha256(released.cpu().numpy().tobytes()).hexdigest()[:16]
            os.write(note, f"{self.plan.purpose}|{self.num_made}|{was}\n".encode())
            return released

        Sanitizer.release = noted  # type: ignore[method-assign,assignment]
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        try:
            runpy.run_module("dpsad.cli", run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException as error:  # what a user would see as a traceback
            os.write(2, f"TRACEBACK {type(error).__name__}: {error}\n".encode())
            code = 99
        os._exit(code)
    os.close(write)
    until, said = time.monotonic() + seconds, b""
    while True:
        left = until - time.monotonic()
        ready, _, _ = select.select([read], [], [], max(0.0, min(left, 3600.0)))
        part = os.read(read, 65536) if ready else b""
        said += part
        if ready and not part:
            break
        if left <= 0:
            os.kill(child, signal.SIGKILL)
            break
    _, status = os.waitpid(child, 0)
    os.close(read)
    return os.waitstatus_to_exitcode(status), said.decode(errors="replace")


def public_lines(run: Path) -> list[dict[str, Any]]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def charges(run: Path) -> list[dict[str, Any]]:
    """What the newest ledger of a run was charged with, without the charges' names, which are random."""
    kept = Run(run)
    ledgers = [load(kept.prototypes)["ledger"]] if kept.prototypes.exists() else []
    for file in kept.private.glob("*.checkpoint"):
        for part in load(file)["parts"].values():
            if isinstance(part, dict) and ("ledger" in part or "entries" in part):
                ledgers.append(part.get("ledger", part))
    entries: list[dict[str, Any]] = max((ledger["entries"] for ledger in ledgers), key=len, default=[])
    return [{key: value for key, value in entry.items() if key != "charge_id"} for entry in entries]


def contents(run: Path) -> dict[str, str]:
    """A fingerprint for each thing that a finished run has kept, but for times and the names of charges."""
    found = {"metrics.jsonl": str(public_lines(run)), "charges": str(charges(run))}
    kept = Run(run)
    for file in [*kept.private.glob("*.pt"), *kept.private.glob("*.checkpoint")]:
        found[file.name] = fingerprint_of_state(_plain(load(file)))
    if kept.statement.exists():
        found["privacy.json"] = str(_plain(json.loads(kept.statement.read_text())))
        found["weights"] = fingerprint_of_state(load_file(kept.release / "student.safetensors"))
        found["picture"] = hashlib.sha256((kept.release / "samples.png").read_bytes()).hexdigest()
    found["left over"] = str(sorted(path.name for path in run.rglob("*") if is_temporary(path)))
    return found


def _plain(state: Any) -> Any:
    """A state without what is random in every run, and without lines that are long written."""
    if isinstance(state, dict):
        left_out = ("charge_id", "told", "fingerprint", "weights_sha256")
        return {key: _plain(value) for key, value in state.items() if key not in left_out}
    return [_plain(value) for value in state] if isinstance(state, list | tuple) else state


def uncommitted_lines(run: Path) -> int:
    """Public lines about steps that no checkpoint of their stage has."""
    steps = {file.stem.replace("_", "-"): load(file)["step"] for file in (run / "private").glob("*.checkpoint")}
    return sum(line["step"] > steps.get(line["stage"], 0) for line in public_lines(run) if "step" in line)


def wrong_charges(run: Path, expected: list[dict[str, Any]]) -> bool:
    """Whether a stopped run has forgotten the charges of what it tells of, or made some twice."""
    found = charges(run)
    told_of_releases = any("released_norm" in line or "squared_distance" in line for line in public_lines(run))
    return (told_of_releases and found != expected) or any(found.count(one) > expected.count(one) for one in found)


def drawn_twice(drawn: Path) -> int:
    """Planned releases that were drawn as more than one thing."""
    seen: dict[str, set[str]] = {}
    for line in drawn.read_text().splitlines() if drawn.exists() else ():
        place, _, was = line.rpartition("|")
        seen.setdefault(place, set()).add(was)
    return sum(len(was) > 1 for was in seen.values())


class Stage:
    """A stage, with an uninterrupted run of it to compare with."""

    def __init__(self, name: str, noise: str, folder: Path):
        before, self.verb, words = STAGES[name]
        self.name, self.noise, self.words = name, noise, (*DIGITS, *words, *SEEDS[noise])
        self.base, self.whole = folder / f"{name}-{noise}-before", folder / f"{name}-{noise}-whole"
        for path in (self.base, self.whole):
            shutil.rmtree(path, ignore_errors=True)
        for verb in before:
            self.finished((verb, *self.words, f"run={self.base}"))
        self.copy(self.whole)
        start = time.monotonic()
        self.finished((self.verb, *self.words, f"run={self.whole}"))
        self.seconds = time.monotonic() - start
        self.contents, self.charges = contents(self.whole), charges(self.whole)
        self.largest = max(path.stat().st_size for path in self.whole.rglob("*") if path.is_file())

    def copy(self, to: Path) -> None:
        shutil.rmtree(to, ignore_errors=True)
        if self.base.exists():
            shutil.copytree(self.base, to)

    def finished(self, words: tuple[str, ...]) -> None:
        code, said = attempt(words, Path(os.devnull))
        if code:
            sys.exit(f"dpsad {' '.join(words)} ended with {code}:\n{said}")

    def point(self, run: Path, rng: random.Random, *, full_disk: bool) -> Found:
        """Stops a run of the stage again and again, looks at what it leaves each time, and lets it end."""
        found, drawn = Found(self.name, self.noise), run.with_suffix(".drawn")
        self.copy(run)
        drawn.unlink(missing_ok=True)
        words = (self.verb, *self.words, f"run={run}")
        stopped = True
        while stopped and found.kills < (1 if full_disk else MOST):
            if full_disk:
                most = int(self.largest ** rng.uniform(0.3, 1))
                code, said = attempt(words, drawn, most=most)
                lines = [line for line in said.splitlines() if line.startswith("error: ")]
                if code not in (0, 1, 2) or (code and len(lines) != 1) or "Traceback" in said:
                    found.said = f"{most} bytes: code {code}, {said[-300:]!r}"
            else:
                code, said = attempt(words, drawn, seconds=rng.uniform(0, 1.2 * self.seconds))
                if code not in (0, -signal.SIGKILL):
                    found.said = f"code {code}, {said[-300:]!r}"
            stopped = code != 0
            found.kills += stopped
            if stopped:
                found.uncommitted += uncommitted_lines(run)
                found.budgets += wrong_charges(run, self.charges)
        code, said = attempt(words, drawn) if stopped else (0, "")
        found.went_on = found.kills if code == 0 else 0
        if code:
            found.said = f"did not go on: code {code}, {said[-300:]!r}"
        else:
            found.budgets += charges(run) != self.charges
            if self.noise == "fixed":
                now = contents(run)
                other = [name for name in self.contents | now if self.contents.get(name) != now.get(name)]
                found.differing += bool(other)
                found.said = found.said or ", ".join(other)
        found.drawn_twice = drawn_twice(drawn)
        if not found.said:
            shutil.rmtree(run)
            drawn.unlink(missing_ok=True)
        return found


def noted(file: Path) -> list[Found]:
    return [Found(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def rounds(stages: list[str], points: int, done: list[Found]) -> Iterator[tuple[str, str, int]]:
    """Stage, noise and number of every point that is still to be made; all stages in turn."""
    for number in range(points):
        for name in stages:
            noise = ("fixed", "secret")[number % 2]
            if sum(found.stage == name for found in done) <= number:
                yield name, noise, number


def table(found: list[Found]) -> str:
    titles = ("stage", "points", "stopped", "went on", "differing", "budgets lost or doubled", "uncommitted lines",
              "drawn twice")  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for name in (*STAGES, "all"):
        own = [one for one in found if name in (one.stage, "all")]
        sums = [sum(getattr(one, key) for one in own) for key in
                ("kills", "went_on", "differing", "budgets", "uncommitted", "drawn_twice")]  # fmt: skip
        if own:
            lines.append("| " + " | ".join(map(str, (name, len(own), *sums))) + " |")
    return "\n".join([*lines, *(f"{one.stage}, {one.noise} noise: {one.said}" for one in found if one.said)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=20, help="of each stage")
    parser.add_argument("--minutes", type=float, default=40.0, help="after which no point is begun")
    parser.add_argument("--stages", default=",".join(STAGES), help="names, with commas between")
    parser.add_argument("--full-disk", action="store_true", help="files may not grow, in place of kills")
    parser.add_argument("--folder", type=Path, default=Path("runs/kill"))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    told = parser.parse_args()
    torch.set_num_threads(1)
    assert Context.checkpoint.__kwdefaults__ is not None
    Context.checkpoint.__kwdefaults__["every_seconds"] = OFTEN
    told.folder.mkdir(parents=True, exist_ok=True)
    kind = "full-disk" if told.full_disk else "kills"
    file, until = told.folder / f"{kind}.jsonl", time.monotonic() + 60 * told.minutes
    done, stages = noted(file), dict[tuple[str, str], Stage]()
    for name, noise, number in rounds(told.stages.split(","), told.points, done):
        if time.monotonic() > until:
            print(f"{told.minutes:g} minutes are over; the same command goes on from here")
            break
        if (name, noise) not in stages:
            stages[name, noise] = Stage(name, noise, told.folder)
        rng = random.Random(f"{told.seed} {kind} {name} {number}")
        found = stages[name, noise].point(told.folder / f"{name}-{kind}-{number}", rng, full_disk=told.full_disk)
        done.append(found)
        with open(file, "a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(found)) + "\n")
    print(table(done))
    wrong = [one for one in done if one.differing or one.budgets or one.uncommitted or one.drawn_twice or one.said]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Checkpoint: where a stage stands, in one file that is always whole."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from dpsad.errors import CheckpointError, require_file
from dpsad.runtime.finite import all_finite
from dpsad.runtime.log import Log
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.runtime.seeds import go_on
from dpsad.runtime.whole_files import PRIVATE, whole

CHECK_EVERY = 50  # steps between looks at guarded parts, beside those before each save


class Part(Protocol):
    """Anything with a state to save: modules, optimizers, a ledger."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


def save_atomic(state: dict[str, Any], path: Path) -> None:
    """Writes `state` so that `path` holds either all of it or what it held before; its owner alone may read it.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written.
    """
    try:
        with whole(path, PRIVATE) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # torch's zip writer hides the file's own error behind a RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__
        reason = cause.strerror if isinstance(cause, OSError) else error
        raise CheckpointError(
            f"{path} could not be written: {reason}; free some space there and run the same command again"
        ) from error


def load(path: Path, *, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads what `save_atomic` wrote. Only plain data and tensors are accepted, never code.

    Raises:
        ValueError: it is no file, or a damaged one, or holds something else.
    """
    require_file(path)
    with open(path, "rb") as file:
        try:
            state = torch.load(file, map_location=map_location, weights_only=True)
        except Exception as error:  # torch raises nearly any kind, OSError included, on bytes it did not write
            raise ValueError(
                f"{path} is damaged and cannot be read; restore it from a copy, or start over with another run=... "
                "(removing it would forget what was spent of the privacy budget)"
            ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__} and no state that dpsad saved; pass another file")
    return state


class Checkpoint:
    """Where a stage stands: steps made, and the state of everything that a step changes.

        checkpoint = Checkpoint(run.private / "teach.pt")
        checkpoint.track(model=model, optimizer=optimizer, generator=rng)
        for step in checkpoint.remaining(config.steps):
            ...

    A run that was stopped or killed, wherever it was, and started again computes bit for bit what it would have
    computed in one go, as long as all that a step changes is tracked.

    Args:
        path: the file; where it exists, its step and parts are taken up, unless the stage stopped for good.
        fingerprint: of what the stage was told and of the data it works on; a file of another is refused. "" asks
            for none.
        every_seconds: how much work may be lost, at most, to a crash.
        unnamed: whether files from before version 0.2, which have no fingerprint, are taken up.
        ranks: those that run the stage together. The file is rank 0's: it writes it, and all take up what it has.
    """

    def __init__(
        self,
        path: Path,
        *,
        fingerprint: str = "",
        every_seconds: float = 60.0,
        unnamed: bool = True,
        ranks: Ranks = ALONE,
    ):
        self.path, self.fingerprint, self.every_seconds, self.step = path, fingerprint, every_seconds, 0
        self.ranks = ranks
        self._parts: dict[str, Part | torch.Generator] = {}
        self._unclaimed: dict[str, Any] = {}
        self._saved_step: int | None = None
        self._guarded: dict[str, Part] = {}
        self._learning_rate = ""
        self._log: Log | None = None
        self._told: list[Any] = []
        state = ranks.from_first(lambda: load(path) if path.exists() else None)
        if state is not None:
            known = state.keys() - {"fingerprint", "stopped", "told"} == {"step", "parts"}
            if not (known and isinstance(state["step"], int) and isinstance(state["parts"], dict)):
                raise ValueError(f"{path} is no checkpoint of a stage; start over with another run=...")
            if "stopped" in state:
                raise ValueError(state["stopped"])
            named = fingerprint and ranks.leads  # others' ledgers give the same charges other names
            if named and state.get("fingerprint", fingerprint if unnamed else "") != fingerprint:
                raise ValueError(
                    f"{path} was begun with other settings, another seed or other images, or with another teacher; go "
                    "on with those, or start over with another run=..."
                )
            self.step = self._saved_step = state["step"]
            self._unclaimed, self._told = state["parts"], state.get("told", [])

    @property
    def begun(self) -> bool:
        """Whether the file was there, or has been written: what comes before the first step is not to be done again."""
        return self._saved_step is not None

    def track(self, **parts: Part | torch.Generator) -> None:
        """Saves these from now on, and restores them at once where the file has them.

        The state of privacy noise is a part of its sanitizer: the file then holds what the next release will draw, and
        nothing of those that are made.

        Raises:
            ValueError: the file has no such part, or one of another shape.
        """
        for name, part in parts.items():
            self._parts[name] = part
            if self._saved_step is None:
                continue
            try:
                state = self._unclaimed.pop(name)
                go_on(part, state) if isinstance(part, torch.Generator) else part.load_state_dict(state)
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                detail = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{name!r} does not fit what {self.path} holds ({detail}); go on with the settings of that run, "
                    "or start over with another run=..."
                ) from error

    def guard(self, learning_rate: str, **parts: Part) -> None:
        """Stops the stage where one of these becomes NaN or infinite; the file keeps the last step that was saved.

        A stage that tracks a `sanitizer` stops for good: the file says so, and is not gone on from. The step that broke
        would be released anew, and again until its noise suits the model, all under one charge.

        Args:
            learning_rate: the key that was too high; named in the error.
            parts: some of those that are tracked.

        Formal guarantee: that a stage stops is seen from outside. Where a run claims a guarantee, guard what is public
        or released, and nothing else: what becomes of that is post-processing, since released sums are finite whatever
        the rows were. Models of single shards stay unguarded; where they fail, their rows count as zero. A nominal run
        claims nothing, and all of it may be guarded.
        """
        self._learning_rate, self._guarded = learning_rate, parts

    def remaining(self, total: int) -> Iterator[int]:
        """Yields the steps not yet made, 0 <= step < total.

        Saves before the first step, so that what was charged to a ledger is on disk before anything is released;
        then when due, after the last step, and when interrupted. The first SIGINT or SIGTERM lets the step finish,
        saves and raises KeyboardInterrupt, in all ranks; the second breaks at once. A step whose body raises or breaks
        out is not saved. Signals are left alone outside the main thread.

        Raises:
            CheckpointError: a save failed; the file holds an earlier step.
            KeyboardInterrupt: after a signal.
            ValueError: the file holds a part that nobody tracks, which saving would drop, or a guarded part is not
                finite.
        """
        if self._unclaimed:
            raise ValueError(
                f"{self.path} holds {', '.join(map(repr, self._unclaimed))}, which this stage does not have; "
                "go on with the settings of that run, or start over with another run=..."
            )
        with _interrupts_deferred() as interrupted:
            saved_at = -math.inf
            while not (stopped := self.ranks.any(interrupted())) and self.step < total:
                if time.monotonic() - saved_at >= self.every_seconds:
                    self.save()
                    saved_at = time.monotonic()
                elif self.step % CHECK_EVERY == 0:
                    self._require_finite()
                yield self.step
                self.step += 1
            self.save()
            if stopped:
                raise KeyboardInterrupt

    def hold(self, log: Log) -> None:
        """Writes lines of a log once the step that they tell of is on disk, and not at all where that never happens.

        After a crash the step is made anew, and what was told of the first would stand beside it, paid for once. The
        lines are saved with the step: where a crash came after the save, they are written now.
        """
        log.hold()
        log.write_missing(self._told)
        self._log = log

    def save(self) -> None:
        """Saves all parts as they are now.

        For what a stage does before its first step, such as a release: charges, and what is drawn, are on disk first.

        Raises:
            CheckpointError: it failed; the file holds what it held.
            ValueError: a guarded part is not finite.
        """
        self._require_finite()
        states = {
            name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
            for name, part in self._parts.items()
        }
        told = self._log.held if self._log else []
        try:
            if self.ranks.leads:
                kept = {"fingerprint": self.fingerprint, "step": self.step, "parts": states, "told": told}
                save_atomic(kept, self.path)
        except CheckpointError as error:
            if self._saved_step is None:
                raise
            raise CheckpointError(f"{error}; the checkpoint of step {self._saved_step} is intact") from error.__cause__
        self._saved_step = self.step
        if self._log:
            self._log.write_held()

    def _require_finite(self) -> None:
        wrong = [name for name, part in self._guarded.items() if not all_finite(part.state_dict())]
        if not wrong:
            return
        kept = f"{self.path} keeps step {self._saved_step}" if self._saved_step is not None else "nothing was saved"
        if "sanitizer" in self._parts:
            mend = f"pass another run=... with a lower {self._learning_rate} ({kept}, and what was spent)"
        else:
            mend = f"lower {self._learning_rate}, remove {self.path} and run the same command again ({kept})"
        said = f"{self.path.stem}: {', '.join(wrong)} became NaN or infinite within {self.step} steps; {mend}"
        if "sanitizer" in self._parts and self.ranks.leads:
            self._stop_for_good(said)
        raise ValueError(said)

    def _stop_for_good(self, said: str) -> None:
        if self.path.exists():
            kept = load(self.path)
            kept["parts"]["sanitizer"]["randomness"] = None  # nothing will be drawn
        else:  # no good step, but what was spent
            sanitizer = self._parts["sanitizer"]
            assert not isinstance(sanitizer, torch.Generator)
            kept = {
                "fingerprint": self.fingerprint,
                "step": self.step,
                "parts": {"sanitizer": sanitizer.state_dict()},
            }
        save_atomic({**kept, "stopped": said}, self.path)


def progress(checkpoint: Checkpoint, total: int, stage: str) -> Iterator[int]:
    """The checkpoint's remaining steps, with a progress bar named after the stage, and a word when it is stopped."""
    try:
        yield from tqdm(checkpoint.remaining(total), desc=stage, initial=checkpoint.step, total=total, unit="step")
    except KeyboardInterrupt:
        print(f"{stage}: stopped after {checkpoint.step} steps; the same command goes on from here", file=sys.stderr)
        raise


@contextmanager
def _interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """Notes the first SIGINT or SIGTERM and raises it at the end of the block; the second raises at once."""
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    old = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):
                old[number] = handler
                signal.signal(number, note)
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if noted:
        raise KeyboardInterrupt

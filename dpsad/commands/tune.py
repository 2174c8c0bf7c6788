"""What `dpsad tune` does: chooses hyperparameters by results on the records, and pays for the choice."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpsad.api.beforehand import prospect_of, require_feasible
from dpsad.api.config import Config
from dpsad.api.launch import opened, release
from dpsad.api.plan import budget_plan
from dpsad.commands.candidates import Candidate, Read, candidates_of
from dpsad.data.records import ImageSet
from dpsad.evaluation.downstream import predict, train_classifier
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.selection import Selection
from dpsad.privacy.statement import selected_statement
from dpsad.release.export import export_release, load_releasable
from dpsad.runtime.context import Context
from dpsad.runtime.json_files import read_json
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import Run
from students.sampling import even_labels, generate

STAGE = "tune"
EPOCHS = 20  # of the logistic regression that scores, 100 iterations of L-BFGS
CLOSE = 1.003  # by so much the budget of a repetition may be below the largest that fits


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a repetition is scored: by the number of records that a classifier trained on its samples gets right.

    num: samples to train the classifier on.
    noise: standard deviation of the noise on that number.
    """

    num: int = 5000
    noise: float = 20.0

    def plan(self) -> ReleasePlan:
        """The release of one score: a record adds a row of norm 1 at most."""
        return ReleasePlan(
            purpose="score of the run among others", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=self.noise
        )


@dataclass
class Repetitions:
    """What was drawn before anything is run, and what has come of it; part of a checkpoint, and secret.

    ledger: charged with all that one repetition releases, as one of several.
    epsilon: of one repetition by itself, without its score.
    picks: place of each repetition's candidate.
    results: of those that are done: score, and the ledger of what it charged; -inf and None where training failed.
    """

    ledger: Ledger
    epsilon: float
    picks: list[int]
    results: list[dict[str, Any]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "ledger": self.ledger.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ledger = replace(self.ledger, entries=[])  # what was charged for this draw, which is not made use of
        self.ledger.load_state_dict(state["ledger"])
        self.epsilon, self.picks, self.results = state["epsilon"], state["picks"], state["results"]


def run_tuning(tries: Sequence[str], read: Read, *, selection: Selection, scoring: Scoring, say: Say) -> None:
    """Runs a secret number of repetitions, each of a candidate drawn at random, and releases the best alone.

    The same command goes on where it was stopped, with the number that was drawn. All repetitions are under the run's
    private/ until the release is there, and are then removed.

    Args:
        tries: see `candidates_of`.
        read: gives the config of the command, with what a candidate changes.
        selection: how the number of repetitions is drawn.
        scoring: what makes one better than another.
        say: receives what may be told.

    Raises:
        ValueError: candidates that would release other sums than each other, a budget that is too small, records
            without labels, or a folder that holds an ordinary run: before anything is trained. No repetition was drawn,
            or all have failed: nothing is released.

    Formal guarantee: what the statement says, of the release, which candidate it is of, and its score. How many
    repetitions there were must stay secret; who watches the command run sees it.
    """
    base, candidates = read(()), candidates_of(tries, read)
    run = Run(Path(base.run))
    if run.kept and run.checkpoint(STAGE) not in run.kept:
        raise ValueError(f"{run.path} already holds a run that is not tuned; pass another run=...")
    with opened(base, say) as context:
        if not run.statement.exists():
            _release_best(base, candidates, context, selection, scoring)
        say(f"release: {run.release}")
        shutil.rmtree(_folder(run), ignore_errors=True)


def _release_best(
    base: Config, candidates: Sequence[Candidate], context: Context, selection: Selection, scoring: Scoring
) -> None:
    """Draws, runs all repetitions that are not done yet, and exports the best."""
    records = context.read_records()
    if records.num_classes == 1:
        raise ValueError("the records have no labels, or one class alone, so there is nothing to score by")
    context = replace(context, randomness=context.randomness.named(STAGE))
    begun = context.run.checkpoint(STAGE).exists()
    for candidate in candidates:
        require_feasible(prospect_of(candidate.config, records, context.device, context.run, has_spent=begun))
    drawn = drawn_repetitions(base, candidates, context, context.num_records(records), selection, scoring)
    told = [base.settings(), *(candidate.name for candidate in candidates)]
    checkpoint = context.checkpoint(STAGE, *told, selection, scoring, records.fingerprint(), every_seconds=0.0)
    checkpoint.track(tune=drawn, randomness=context.randomness)
    context.say(
        f"tune: {len(candidates)} candidates, {selection.mean:g} repetitions on average, epsilon {drawn.epsilon:.3f} "
        f"each and {drawn.ledger.spent():.3f} for all; how many were drawn is secret"
    )
    with context.timed(STAGE):
        for place in checkpoint.remaining(len(drawn.picks)):
            config = repetition_config(
                candidates[drawn.picks[place]].config, drawn.epsilon, _folder(context.run) / str(place)
            )
            drawn.results.append(run_repetition(config, records, context, drawn.ledger, scoring))
    scores = [result["score"] for result in drawn.results]
    if max(scores, default=-math.inf) == -math.inf:
        why = "no repetition was drawn" if not scores else "training failed in all repetitions"
        raise ValueError(
            f"{why}: nothing is released, and to know that has cost the budget; pass another run=..., which costs as "
            "much again"
        )
    best = scores.index(max(scores))
    ledger = Ledger.of(base.privacy)
    ledger.load_state_dict(drawn.results[best]["ledger"])
    folder, chosen = _folder(context.run) / str(best), candidates[drawn.picks[best]]
    tuned = dict.fromkeys(change.partition("=")[0] for change in chosen.changes)
    statement = selected_statement(_statement(folder), ledger, tuned=list(tuned))
    statement["selection"] |= {
        "candidates": [candidate.name for candidate in candidates],
        "chosen": chosen.name,
        "score": scores[best],
    }
    export_release(context.run.release, load_releasable(folder), statement)
    context.say(f"tune: {chosen.name} was best; epsilon {statement['epsilon']:.3f} with the choice")


def drawn_repetitions(
    base: Config,
    candidates: Sequence[Candidate],
    context: Context,
    num_records: int,
    selection: Selection,
    scoring: Scoring,
) -> Repetitions:
    """Plans a repetition, charges it as one of several, and draws how many there are and what each tries.

    Raises:
        ValueError: candidates' releases differ, or no budget of a repetition, however small, fits.
    """
    ledger = replace(Ledger.of(base.privacy), selection=selection)

    def plans(candidate: Candidate, epsilon: float) -> list[ReleasePlan]:
        return budget_plan(repetition_config(candidate.config, epsilon, Path()), num_records)

    def fits(epsilon: float) -> bool:
        return ledger.planned([*plans(candidates[0], epsilon), scoring.plan()]).spent() <= ledger.epsilon

    epsilon = largest(fits, ledger.epsilon)
    planned = plans(candidates[0], epsilon)
    for candidate in candidates[1:]:
        if plans(candidate, epsilon) != planned:
            raise ValueError(
                f"{candidate.name} would release other sums than {candidates[0].name}, and what is paid for the choice "
                "holds where all release the same; vary what leaves `dpsad account` as it is, such as teacher.steps, "
                "student.learning_rate or sampler.steps, and compare the rest on public data"
            )
    for plan in (*planned, scoring.plan()):
        ledger.charge(plan, fixed_noise=context.randomness.repeatable)
    number = selection.draw(context.randomness)
    picks = (context.randomness.uniform(number) * len(candidates)).long().clamp(max=len(candidates) - 1)
    return Repetitions(ledger, epsilon, picks.tolist())


def largest(fits: Callable[[float], bool], most: float) -> float:
    """The largest budget of a repetition that fits, up to 0.3 %.

    Raises:
        ValueError: none does.
    """
    low = high = most
    while not fits(low):
        low, high = low / 2, low
        if low < most / 1000:
            raise ValueError(
                f"privacy.epsilon={most:g} leaves nothing for one repetition beside the choice; raise privacy.epsilon "
                "or --score-noise, or lower --mean"
            )
    while high > low * CLOSE:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def repetition_config(config: Config, epsilon: float, folder: Path) -> Config:
    """A candidate's config on the budget of one repetition, in a folder of its own."""
    return replace(config, run=str(folder), privacy=replace(config.privacy, epsilon=epsilon))


def run_repetition(
    config: Config, records: ImageSet, context: Context, planned: Ledger, scoring: Scoring
) -> dict[str, Any]:
    """Trains and scores; charges what was released in fact, as one of several, before the score is.

    One whose training fails has the lowest score: what fails is public or released, so that the failure is an outcome
    like any other.
    """
    folder = Path(config.run)
    try:
        with opened(config, _tell_nobody, load_records=context.load_records) as own:
            release(config, own, config.trained_by().train)
        right = right_answers(config, records, scoring, context.device)
    except ValueError as error:
        context.say(f"warning: a repetition failed: {error}")
        return {"score": -math.inf, "ledger": None}
    charged = [ReleasePlan.from_dict(event) for event in _statement(folder)["events"]]
    if charged != planned.entries[:-1]:
        raise ValueError(f"{folder} has released other sums than were planned; start over with another run=...")
    ledger = replace(planned, entries=[])
    for plan in charged:
        ledger.charge(plan)
    return {"score": noisy_score(right, scoring, ledger, context.randomness), "ledger": ledger.state_dict()}


def right_answers(config: Config, records: ImageSet, scoring: Scoring, device: torch.device) -> Tensor:
    """[records] whether each is classified right by logistic regression on the student's samples; private."""
    student = load_releasable(Run(Path(config.run)).release, device=device).student()
    labels = even_labels(scoring.num, len(student.class_names))
    samples = generate(student, labels, seed=config.seed)
    classifier = train_classifier(
        "logistic",
        samples,
        labels,
        num_classes=len(student.class_names),
        seed=config.seed,
        epochs=EPOCHS,
        device=device,
    )
    return predict(classifier, records.images).argmax(dim=1) == records.labels.cpu()


def noisy_score(right: Tensor, scoring: Scoring, ledger: Ledger, randomness: PrivateRandomness) -> float:
    """The number of right answers, released through the ledger's door."""
    rows = right.float()[:, None].to(randomness.device)
    return Sanitizer(scoring.plan(), ledger, randomness).release([rows], (1,)).item()


def _folder(run: Run) -> Path:
    return run.private / "repetitions"


def _statement(folder: Path) -> dict[str, Any]:
    return read_json(Run(folder).statement)


def _tell_nobody(line: str) -> None:
    """For lines of repetitions, which would say how many there are."""

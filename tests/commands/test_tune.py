"""`dpsad tune` on 200 digits: what is paid, what is released, what stays secret, and crashes."""

import json
import math
import re

import pytest
import torch
from dp_accounting import ComposedDpEvent
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from scipy.stats import chi2

from dpsad import load_student
from dpsad.api.config import Config
from dpsad.commands import tune
from dpsad.commands.candidates import Candidate
from dpsad.commands.read import read_config
from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.selection import Selection
from dpsad.runtime.checkpoint import load

DATA = ("--config", "digits-class-means", "data.share=0.144", "privacy.num_records=200", "privacy.delta=1e-3")
TRIES = ("--try", "augmentation.rotation=0,8", "--num", 40)


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def three(monkeypatch):
    """Three repetitions are drawn, whatever the chances."""
    monkeypatch.setattr(Selection, "draw", lambda self, randomness: 3)


def paid(statement):
    """Epsilon of the statement's events, each repetition releasing all of them, by the accountant itself."""
    events = [ReleasePlan.from_dict(event).event(1) for event in statement["events"]]
    assert statement["selection"]["repetitions"] == "geometric"
    repeated = RepeatAndSelectDpEvent(ComposedDpEvent(events), statement["selection"]["mean"], 1.0)
    return epsilon_of([repeated], statement["delta"])


def test_the_best_is_released_and_its_epsilon_is_of_all_that_was_tried(command, run, three, monkeypatch):
    scores, trained = [], []

    def noisy_score(*args, inner=tune.noisy_score):
        scores.append(inner(*args))
        return scores[-1]

    def release(config, context, train, inner=tune.release):
        inner(config, context, train)
        trained.append(load_student(context.run.path).model.images.clone())
        assert oct(run.joinpath("private").stat().st_mode)[-3:] == "700"

    monkeypatch.setattr(tune, "noisy_score", noisy_score)
    monkeypatch.setattr(tune, "release", release)
    code, printed = command("tune", *DATA, *TRIES, f"run={run}", "--mean", 2.5)
    assert code == 0, printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert statement["formal"]
    assert statement["epsilon"] == paid(statement)
    assert 9.5 < statement["epsilon"] <= 10
    assert [event["purpose"] for event in statement["events"]] == ["class means", "score of the run among others"]
    selection = statement["selection"]
    assert (selection["mean"], selection["candidates"]) == (2.5, ["augmentation.rotation=0", "augmentation.rotation=8"])
    assert selection["score"] == max(scores)
    best = scores.index(max(scores))
    assert torch.equal(load_student(run).model.images, trained[best])
    assert not torch.equal(trained[best], trained[best - 1]), "each repetition has noise of its own"
    assert selection["chosen"] in selection["candidates"]
    (choice,) = [item for item in statement["not_covered"] if "hyperparameters" in item]
    assert "other than augmentation.rotation," in choice
    assert "secret number of runs, 2.5 on average" in (run / "release" / "README.md").read_text()

    assert not (run / "private" / "repetitions").exists()
    assert {path.name for path in run.iterdir()} == {"config.yaml", "private", "release"}
    said = [line for line in printed.splitlines() if line.startswith(("tune:", "class-means:", "release:"))]
    assert len(said) == 3, "no line for a repetition"
    code, printed = command("ledger", run.parent)
    assert f"together: epsilon {statement['epsilon']:.4g} at" in printed
    before = (run / "release" / "privacy.json").read_bytes()
    code, printed = command("tune", *DATA, *TRIES, f"run={run}")
    assert code == 0, printed
    assert (run / "release" / "privacy.json").read_bytes() == before
    assert command("compare", run, "--out", run.parent / "comparison")[0] == 0


def test_a_tune_that_was_stopped_goes_on_with_what_it_drew_and_pays_once(command, run, three, monkeypatch):
    made = []

    def right_answers(config, *args, inner=tune.right_answers):
        made.append(config.run)
        if len(made) == 2:
            raise RuntimeError("power cut")
        return inner(config, *args)

    monkeypatch.setattr(tune, "right_answers", right_answers)
    words = (*DATA, *TRIES, f"run={run}")
    with pytest.raises(RuntimeError, match="power cut"):
        command("tune", *words)
    stopped = load(run / "private" / "tune.checkpoint")["parts"]["tune"]
    assert len(stopped["results"]) == 1
    code, printed = command("ledger", run.parent, "--delta", 1e-3)
    assert "no release yet" in printed
    assert re.search(r"together: epsilon (9\.\d+|10) at .*\(2 charges\)", printed), "charged before anything was run"

    code, printed = command("tune", *DATA, "--try", "augmentation.rotation=0,9", "--num", 40, f"run={run}")
    assert (code, "was begun with other settings" in printed) == (2, True), printed
    monkeypatch.setattr(Selection, "draw", lambda self, randomness: 9)
    code, printed = command("tune", *words)
    assert code == 0, printed
    done = load(run / "private" / "tune.checkpoint")["parts"]["tune"]
    assert done["picks"] == stopped["picks"]
    assert done["results"][0] == stopped["results"][0]
    assert [path[-1] for path in made] == ["0", "1", "1", "2"]
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (len(statement["events"]), statement["epsilon"]) == (2, paid(statement))


def test_candidates_that_release_other_sums_are_refused_before_anything_is_made(command, run):
    words = ("--config", "digits", "--try", "prototypes.shares=[0.4,0.6],[0.5,0.5]", "--num", 40)
    steps = ("refine.steps=0", "teacher.steps=1", "student.steps=1")
    code, printed = command("tune", *words, *steps, f"run={run}")
    assert (code, "would release other sums than" in printed) == (2, True), printed
    assert not run.exists()


def test_a_repetition_that_fails_is_the_worst_and_no_release_is_made_of_failures_alone(
    command, run, three, monkeypatch
):
    def fails(config, *args, inner=tune.right_answers):
        if not config.run.endswith("1"):
            raise ValueError("the student diverged")
        return inner(config, *args)

    monkeypatch.setattr(tune, "right_answers", fails)
    code, printed = command("tune", *DATA, *TRIES, f"run={run}")
    assert code == 0, printed
    assert printed.count("warning: a repetition failed: the student diverged") == 2
    results = load(run / "private" / "tune.checkpoint")["parts"]["tune"]["results"]
    assert [result["score"] > -math.inf for result in results] == [False, True, False]

    monkeypatch.setattr(tune, "right_answers", lambda *args: fails(read_config(None, ["run=0"])))
    code, printed = command("tune", *DATA, *TRIES, f"run={run.parent / 'other'}")
    assert (code, "training failed in all repetitions: nothing is released" in printed) == (2, True), printed
    assert not (run.parent / "other" / "release").exists()


def test_a_poisson_number_may_be_zero_which_stays_so(command, run, monkeypatch):
    monkeypatch.setattr(Selection, "draw", lambda self, randomness: 0)
    words = ("tune", *DATA, *TRIES, "--repetitions", "poisson", f"run={run}")
    assert "no repetition was drawn: nothing is released" in command(*words)[1]
    monkeypatch.setattr(Selection, "draw", lambda self, randomness: 2)
    code, printed = command(*words)
    assert (code, "no repetition was drawn: nothing is released" in printed) == (2, True), printed
    assert re.search(r"together: epsilon (9\.\d+|10) at", command("ledger", run, "--delta", 1e-3)[1])


def test_a_folder_of_an_ordinary_run_is_refused(command, run):
    assert command("baseline", *DATA, f"run={run}")[0] == 0
    code, printed = command("tune", *DATA, *TRIES, f"run={run}")
    assert (code, "holds a run that is not tuned" in printed) == (2, True), printed


def test_candidates_are_drawn_evenly_and_the_budget_is_used(context, monkeypatch):
    """3,000 draws among three; chi-square, a right one is rejected with probability 2e-6."""
    monkeypatch.setattr(Selection, "draw", lambda self, randomness: 3000)
    base = read_config("digits-class-means", [])
    candidates = [Candidate(str(place), (), base) for place in range(3)]
    drawn = tune.drawn_repetitions(base, candidates, context, 1437, Selection(), tune.Scoring())
    counts = torch.tensor(drawn.picks).bincount(minlength=3)
    assert 1e-6 < chi2.cdf(((counts - 1000) ** 2 / 1000).sum().item(), df=2) < 1 - 1e-6
    assert 0.99 * 10 < drawn.ledger.spent() <= 10
    assert len(drawn.ledger.entries) == 2


def test_a_score_is_charged_and_its_noise_has_the_planned_scale(has_scale):
    scoring, right = tune.Scoring(noise=20.0), torch.arange(300) < 120
    scores = []
    for _ in range(300):
        ledger = Ledger(math.inf, 1e-5, selection=Selection())
        scores.append(tune.noisy_score(right, scoring, ledger, PrivateRandomness()))
        assert ledger.entries == [scoring.plan()]
    assert has_scale(torch.tensor(scores) - 120, 20.0)


def test_what_each_repetition_may_cost_is_found_from_below():
    assert tune.largest(lambda epsilon: epsilon <= 3.0, 10.0) == pytest.approx(3.0, rel=3e-3)
    assert tune.largest(lambda epsilon: epsilon <= 3.0, 10.0) <= 3.0
    assert tune.largest(lambda epsilon: True, 10.0) == 10.0
    with pytest.raises(ValueError, match="leaves nothing for one repetition"):
        tune.largest(lambda epsilon: False, 10.0)


def test_a_repetition_is_its_candidate_on_its_own_budget(tmp_path):
    config = tune.repetition_config(Config(), 3.0, tmp_path)
    assert (config.run, config.privacy.epsilon, config.privacy.delta) == (str(tmp_path), 3.0, 1e-5)

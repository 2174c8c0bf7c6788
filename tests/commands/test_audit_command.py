"""`dpsad audit` on runs of 200 digits: what it writes, where, and when it raises the alarm."""

import json
import shutil

import pytest
import torch

from dpsad.audit.result import AuditResult
from dpsad.commands import shadow_runs
from dpsad.privacy.randomness import PrivateRandomness


@pytest.fixture
def run(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder


def result_in(run):
    return json.loads((run / "private" / "audit.json").read_text())


def test_a_finished_run_is_audited_below_its_ledger_and_into_private_alone(run, command):
    before = {path.name: path.read_bytes() for path in (run / "release").iterdir()}
    code, printed = command("audit", run, "--repetitions", 2000, "--confidence", 0.999999)
    assert code == 0, printed
    found = AuditResult.from_dict(result_in(run))
    assert found.release is not None
    assert (found.refuted, found.canaries, found.membership) == (False, None, None)
    assert 1 < found.release.audited_epsilon <= found.release.claimed_epsilon
    assert found.release.claimed_epsilon == pytest.approx(found.privacy["epsilon"], rel=1e-3)
    assert f"the ledger says epsilon {found.release.claimed_epsilon:.3f}; measured lower bound" in printed
    assert {path.name: path.read_bytes() for path in (run / "release").iterdir()} == before
    assert not (run / "audit.json").exists()


def test_the_comparison_shows_the_bound_and_passes_over_one_of_an_older_release(run, command, tmp_path):
    command("audit", run, "--repetitions", 500)
    bound = AuditResult.from_dict(result_in(run)).epsilon
    code, printed = command("compare", run, "--out", tmp_path / "page")
    assert (code, f">= {bound:.3f}" in printed) == (0, True), printed
    assert f"&gt;= {bound:.3f}" in (tmp_path / "page" / "report.html").read_text()
    statement = run / "release" / "privacy.json"
    statement.write_text(json.dumps({**json.loads(statement.read_text()), "delta": 2e-5}))
    code, printed = command("compare", run, "--out", tmp_path / "page")
    assert (code, "audited before its release was made anew" in printed) == (0, True), printed
    assert ">=" not in printed


def test_without_noise_it_raises_the_alarm(run, command, monkeypatch):
    monkeypatch.setattr(
        PrivateRandomness, "rounded_normal", lambda self, shape, scale: torch.zeros(shape, dtype=torch.float64)
    )
    code, printed = command("audit", run, "--repetitions", 400)
    assert (code, "REFUTED" in printed) == (1, True), printed
    assert result_in(run)["release"]["refuted"]


def test_canaries_and_shadows_train_anew_and_leave_nothing_behind(run, command, monkeypatch):
    seen, familiarity = [], shadow_runs.familiarity
    monkeypatch.setattr(
        shadow_runs, "familiarity", lambda student, *images: seen.append(student) or familiarity(student, *images)
    )
    before = {path.name for path in (run / "private").iterdir()}
    code, printed = command("audit", run, "--repetitions", 100, "--canaries", 20, "--shadows", 3)
    assert code == 0, printed
    result = result_in(run)
    assert len(seen) == 4
    assert result["canaries"]["num_canaries"] == 20
    assert result["canaries"]["score"] == shadow_runs.BY_LOSS
    assert set(result["membership"]["true_positive_rates"]) == {"0.01", "0.001"}
    assert result["membership"]["num_records"] == 201
    assert {path.name for path in (run / "private").iterdir()} == before | {"audit.json"}


def test_a_nominal_run_is_audited_by_its_own_loop(tiny, tmp_path, command):
    run = tmp_path / "nominal"
    told = (*tiny, "guarantee=nominal", "teacher.data=private", "student.steps=40", "student.data_weight=1")
    for verb in ("teach", "distill"):
        code, printed = command(verb, "--config", "digits", f"run={run}", "privacy.epsilon=1", *told)
        assert code == 0, printed
    code, printed = command("audit", run, "--repetitions", 100)
    assert (code, "the nominal epsilon is" in printed) == (0, True), printed
    found = AuditResult.from_dict(result_in(run))
    assert found.release is not None
    assert found.refuted
    assert found.release.nominal
    assert found.release.epsilon_of_plans > found.release.claimed_epsilon


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--confidence", "2"], "--confidence 2 must be between 0 and 1"),
        (["--shadows", "2"], "--shadows 2 is too few"),
    ],
)
def test_what_tells_nothing_is_refused(run, command, words, message):
    code, printed = command("audit", run, "--repetitions", 8, *words)
    assert (code, message in printed) == (2, True), printed
    assert not (run / "private" / "audit.json").exists()


def test_a_run_without_a_release_is_refused(tmp_path, command):
    code, printed = command("audit", tmp_path)
    assert (code, "has no release/privacy.json to audit" in printed) == (2, True), printed

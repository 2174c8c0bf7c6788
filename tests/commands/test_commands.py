"""Whole commands on 200 digits: what they write, and what bad input gets."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from dpsad import load_student
from dpsad.data.config import DataConfig
from dpsad.data.records import CLASSES_OF_DATA, COLOUR_OF_DATA, SIZE_OF_DATA
from dpsad.data.sources import load_images
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.statement import LIMITED
from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.training import dp_sgd as dp_sgd_stage


def test_the_release_holds_what_is_safe_to_share_and_no_more(finished):
    names = {path.name for path in (finished / "release").iterdir()}
    assert names == {"student.safetensors", "config.yaml", "privacy.json", "samples.png", "README.md"}
    assert not any(path.is_symlink() for path in (finished / "release").rglob("*"))
    for name in ("config.yaml", "privacy.json", "README.md"):
        text = (finished / "release" / name).read_text()
        assert str(finished) not in text, "a path of this machine"
        assert "private/" not in text.replace("everything under private/", "")
    assert stat.S_IMODE((finished / "private").stat().st_mode) == 0o700


def test_the_statement_comes_from_the_ledger(finished):
    statement = json.loads((finished / "release" / "privacy.json").read_text())
    assert statement["guarantee"] == "records"
    assert statement["formal"] is True
    assert 9.5 < statement["epsilon"] <= 10
    assert (statement["delta"], statement["unit"]) == (1e-5, ["record"])
    assert statement["adjacency"] == "add-or-remove-one-record"
    purposes = [event["purpose"] for event in statement["events"]]
    assert purposes == ["prototypes, 1 a class", "prototypes, 4 a class", "refine, gradient rows"]
    assert statement["events"][-1]["sampling_prob"] == 0.2
    charged = load(finished / "private" / "refine.checkpoint")["parts"]["sanitizer"]["ledger"]["entries"]
    assert statement["events"] == charged


def test_public_metrics_hold_nothing_private(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {key for line in lines for key in line} <= {
        "stage", "step", "prototypes", "epsilon", "released_norm",
    }  # fmt: skip


def test_account_agrees_with_what_was_charged(finished, command, tiny):
    code, printed = command("account", "--config", "digits", *tiny)
    assert code == 0
    statement = json.loads((finished / "release" / "privacy.json").read_text())
    for event in statement["events"]:
        assert f"{event['num_releases']} x noise multiplier {event['noise_multiplier']:.3f}" in printed
    assert f"epsilon so far {statement['epsilon']:.3f}" in printed
    said = re.search(r"cross-check: opacus RDP ([\d.]+), opacus PRV ([\d.]+)", printed)
    assert said
    by_rdp, by_prv = map(float, said.groups())
    assert statement["epsilon"] < by_prv < min(by_rdp, statement["epsilon"] + 0.03)


def test_samples_are_split_as_a_data_set_is_and_read_as_one(finished, command, tmp_path):
    out = tmp_path / "s.npz"
    assert command("sample", finished, "--num", 40, "--test-share", 0.25, "--out", out)[0] == 0
    read = {split: load_images(DataConfig(source="npz", path=str(out)), split) for split in ("train", "test")}
    assert {split: len(found) for split, found in read.items()} == {"train": 30, "test": 10}
    assert read["test"].class_names == tuple("0123456789")
    code, printed = command("sample", finished, "--num", 12, "--test-share", 0.25, "--out", tmp_path / "few")
    assert (code, "raise --num" in printed, (tmp_path / "few").exists()) == (2, True, False)


def test_samples_are_written_both_ways_and_agree(finished, command, tmp_path):
    assert command("sample", finished, "--num", 25, "--out", tmp_path / "a.npz")[0] == 0
    assert command("sample", finished / "release", "--num", 25, "--out", tmp_path / "b", "--batch-size", 7)[0] == 0
    archive = np.load(tmp_path / "a.npz")
    assert (archive["images"].dtype, archive["images"].shape) == (np.uint8, (25, 8, 8))
    assert archive["labels"].tolist() == [index % 10 for index in range(25)]
    for index in (0, 13, 24):
        picture = np.asarray(Image.open(tmp_path / "b" / str(index % 10) / f"{index:06d}.png"))
        assert np.abs(picture.astype(int) - archive["images"][index]).max() <= 1


def test_samples_can_be_of_one_class_and_never_overwrite(finished, command, tmp_path):
    out = tmp_path / "sevens.npz"
    assert command("sample", finished, "--num", 5, "--label", 7, "--out", out)[0] == 0
    assert np.load(out)["labels"].tolist() == [7] * 5
    code, printed = command("sample", finished, "--out", out)
    assert code == 2
    assert "exists already" in printed
    code, printed = command("sample", finished, "--label", 10, "--out", tmp_path / "c.npz")
    assert (code, "outside 0..9" in printed) == (2, True)


def test_the_released_student_loads_without_the_run(finished, tmp_path):
    shutil.copytree(finished / "release", tmp_path / "elsewhere")
    images = load_student(tmp_path / "elsewhere").sample(torch.tensor([0, 1]), seeds=[1, 2])
    assert images.shape == (2, 1, 8, 8)
    assert images.abs().max() <= 1


def test_a_student_that_starts_from_prototypes_is_released_with_them(finished, command, tiny, tmp_path):
    run = tmp_path / "run"
    start = ("sampler.start=prototypes", "sampler.sigma_max=1", f"teacher.path={finished / 'private' / 'teacher.pt'}")
    code, printed = command("distill", "--config", "digits", f"run={run}", *tiny, *start)
    assert code == 0, printed
    shared = shutil.copytree(run / "release", tmp_path / "elsewhere")
    labels, seeds = torch.tensor([3, 7]), [5, 6]
    images = load_student(run).sample(labels, seeds)
    assert torch.equal(load_student(shared).sample(labels, seeds), images)
    assert "denoising steps from prototypes on" in (shared / "README.md").read_text()
    released = load_student(shared).model.prototypes()
    sketch = load(finished / "private" / "sketch.pt")["prototypes"]
    assert torch.equal(released.images, sketch["images"])
    assert torch.equal(released.counts, sketch["counts"])
    assert command("sample", shared, "--num", 10, "--out", tmp_path / "samples.npz")[0] == 0


@pytest.mark.parametrize("words", [("guarantee=nominal",), ("teacher.data=public",), ("student.use_labels=false",)])
def test_only_a_student_with_a_sketch_can_start_from_it(command, tiny, tmp_path, words):
    run = tmp_path / "run"
    code, printed = command("teach", "--config", "digits", f"run={run}", *tiny, *words, "sampler.start=prototypes")
    assert (code, "sampler.start=prototypes needs prototypes and their classes" in printed) == (2, True), printed
    assert not run.exists()


def test_finished_stages_are_not_done_again(finished, command):
    before = (finished / "release" / "student.safetensors").read_bytes()
    for verb in ("sketch", "teach", "distill"):
        assert command(verb, f"run={finished}")[0] == 0
    assert (finished / "release" / "student.safetensors").read_bytes() == before


def test_published_says_that_it_is_not_formal(command, tiny, tmp_path):
    published = ("guarantee=nominal", "teacher.data=private", "student.data_weight=1", *tiny)
    run = tmp_path / "nominal"
    assert command("teach", "--config", "digits", f"run={run}", *published)[0] == 0
    code, printed = command("distill", f"run={run}")
    assert code == 0
    assert "NOT a formal privacy guarantee" in printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["formal"], statement["epsilon"], len(statement["reasons"])) == (False, None, 5)
    assert "student.start=teacher" in statement["reasons"][-1]
    assert 9 < statement["nominal_epsilon"] <= 10
    assert "NOT formally private" in (run / "release" / "README.md").read_text()
    assert not (run / "metrics.jsonl").exists(), "every number of this run is private"


def test_a_fixed_noise_seed_voids_the_statement(command, tiny, tmp_path):
    words = ("--config", "digits", f"run={tmp_path / 'r'}", "privacy.noise_seed=1", "refine.steps=0", *tiny[:3])
    for verb in ("teach", "distill"):
        assert command(verb, *words)[0] == 0
    statement = json.loads((tmp_path / "r" / "release" / "privacy.json").read_text())
    assert statement["formal"] is False
    assert "noise_seed" in statement["reasons"][0]
    path = f"teacher.path={tmp_path / 'r' / 'private' / 'teacher.pt'}"
    words = ("--config", "digits", f"run={tmp_path / 's'}", "refine.steps=0", *tiny[:3], path)
    assert command("distill", *words)[0] == 0
    statement = json.loads((tmp_path / "s" / "release" / "privacy.json").read_text())
    assert statement["formal"] is False, "the teacher's noise was fixed elsewhere"


def test_a_limit_voids_the_statement(command, tiny, tmp_path):
    """Also where the student reads no record itself, and where its prototypes come from a run that had the limit."""
    words = ("--config", "digits", f"run={tmp_path / 'r'}", "refine.steps=0", "data.limit=200", *tiny[:3])
    for verb in ("sketch", "teach", "distill"):
        assert command(verb, *words)[0] == 0
    statement = json.loads((tmp_path / "r" / "release" / "privacy.json").read_text())
    assert (statement["formal"], statement["reasons"]) == (False, [LIMITED])
    assert LIMITED not in statement["not_covered"]
    assert LIMITED in (tmp_path / "r" / "release" / "README.md").read_text()
    path = f"teacher.path={tmp_path / 'r' / 'private' / 'teacher.pt'}"
    words = ("--config", "digits", f"run={tmp_path / 's'}", "refine.steps=0", *tiny[:3], path)
    assert command("distill", *words)[0] == 0
    assert not json.loads((tmp_path / "s" / "release" / "privacy.json").read_text())["formal"]
    taught = load(tmp_path / "r" / "private" / "teacher.pt")
    del taught["sketch"]["ledger"]["read_off"]  # as versions wrote it that did not note it
    save_atomic(taught, tmp_path / "r" / "private" / "teacher.pt")
    shutil.rmtree(tmp_path / "r" / "release")
    (tmp_path / "r" / "private" / "distill.checkpoint").unlink()  # of the teacher as it was
    assert command("distill", f"run={tmp_path / 'r'}")[0] == 0
    assert not json.loads((tmp_path / "r" / "release" / "privacy.json").read_text())["formal"]


def test_what_is_read_off_a_folder_is_in_its_statement_and_what_is_stated_is_not(command, tmp_path):
    for index in range(40):
        (tmp_path / "images" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 6 * index, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "ab"[index % 2] / f"{index}.png")
    words = ("method=class-means", "data.source=folder", f"data.path={tmp_path / 'images'}", "privacy.delta=1e-2")
    stated = ("data.class_names=[a,b]", "data.image_size=8", "data.grey=true")
    for name, more in (("off", ()), ("said", stated)):
        code, printed = command("baseline", f"run={tmp_path / name}", *words, *more)
        assert code == 0, printed
        statement = json.loads((tmp_path / name / "release" / "privacy.json").read_text())
        assert statement["formal"]
        read_off = {CLASSES_OF_DATA, SIZE_OF_DATA, COLOUR_OF_DATA} & set(statement["not_covered"])
        assert len(read_off) == (0 if more else 3)
    (tmp_path / "images" / "a" / "broken.png").write_bytes(b"no image")
    code, printed = command("baseline", f"run={tmp_path / 'again'}", *words, *stated)
    assert (code, "warning: some records are left out" in printed) == (0, True)
    code, printed = command("baseline", f"run={tmp_path / 'refused'}", *words)
    assert (code, "cannot decode" in printed, (tmp_path / "refused").exists()) == (2, True, False)


@pytest.mark.parametrize("guarantee", ["records", "nominal"])
@pytest.mark.parametrize("data", ["sketch", "private", "public"])
@pytest.mark.parametrize("data_weight", [0.0, 1.0])
def test_no_config_puts_a_private_model_next_to_a_records_row(command, tmp_path, guarantee, data, data_weight):
    words = (f"guarantee={guarantee}", f"teacher.data={data}", f"student.data_weight={data_weight}")
    code, printed = command("account", "--config", "digits", *words)
    forbidden = guarantee == "records" and (data == "private" or data_weight > 0)
    assert code == (2 if forbidden else 0), printed
    if forbidden:
        assert "guarantee=" in printed


def with_provenance(finished, tmp_path, provenance):
    product = load(finished / "private" / "teacher.pt")
    save_atomic({**product, "provenance": provenance}, tmp_path / "teacher.pt")
    return f"teacher.path={tmp_path / 'teacher.pt'}"


def test_a_private_teacher_file_is_refused_where_a_released_one_is_needed(finished, command, tiny, tmp_path):
    path = with_provenance(finished, tmp_path, "private")
    code, printed = command("distill", "--config", "digits", f"run={tmp_path / 'r'}", *tiny, path)
    assert code == 2
    assert "provenance 'private'" in printed
    assert not (tmp_path / "r").exists()


def test_a_teacher_of_another_shape_is_refused(finished, command, tiny, tmp_path):
    path = f"teacher.path={finished / 'private' / 'teacher.pt'}"
    words = ("--config", "digits", f"run={tmp_path / 'r'}", *tiny, path, "network.channels=16")
    code, printed = command("distill", *words)
    assert code == 2
    assert "network" in printed


def test_what_a_teacher_has_cost_comes_along_and_a_spent_budget_is_refused(finished, command, tiny, tmp_path):
    path = f"teacher.path={finished / 'private' / 'teacher.pt'}"
    code, printed = command("distill", "--config", "digits", f"run={tmp_path / 'r'}", *tiny, path, "privacy.epsilon=5")
    assert code == 2
    assert "over the budget of 5" in printed
    assert not (tmp_path / "r" / "release").exists()


def test_a_teacher_from_elsewhere_is_not_sketched_again(finished, command, tiny, tmp_path):
    run, path = tmp_path / "r", f"teacher.path={finished / 'private' / 'teacher.pt'}"
    assert command("distill", "--config", "digits", f"run={run}", *tiny, path)[0] == 0
    assert not (run / "private" / "sketch.pt").exists()
    here, there = (json.loads((path / "release" / "privacy.json").read_text())["events"] for path in (run, finished))
    assert [ReleasePlan.from_dict(event) for event in here] == [ReleasePlan.from_dict(event) for event in there]
    same = [ours["charge_id"] == theirs["charge_id"] for ours, theirs in zip(here, there, strict=True)]
    assert same == [True] * (len(same) - 1) + [False], "the sketch is the other run's, the refinement its own"


def test_another_run_in_the_same_folder_is_refused_and_nothing_is_lost(finished, command, tiny):
    before = (finished / "config.yaml").read_bytes()
    code, printed = command("teach", "--config", "digits", f"run={finished}", *tiny, "privacy.epsilon=3")
    assert code == 2
    assert "already holds another run" in printed
    assert "privacy.epsilon" in printed
    assert (finished / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["privcy.epsilon=1"], "did you mean 'privacy.epsilon'"),
        (["privacy.epsilon=-1"], "privacy.epsilon=-1.0 must be in"),
        (["privacy.epsilon=ten"], "must be a number"),
        (["privacy.delta=2"], "privacy.delta=2.0 must be in"),
        (["teacher.data=prototype"], "did you mean 'prototypes'"),
        (["guarantee=recods"], "did you mean 'records'"),
        (["device=gpu"], "use auto, cpu, cuda"),
        (["data.source=torchvision", "data.name=MNIST", "data.root=nowhere"], "data.download=true"),
        (["data.source=folder", "data.path=nowhere"], "nowhere"),
        (["refine.batch_size=500"], "more than the 200 records"),
        (["epsilon"], "has no '='"),
    ],
)
def test_bad_input_gets_one_clear_line_and_leaves_no_release(command, tiny, tmp_path, words, message):
    run = tmp_path / "r"
    for verb in ("teach", "distill"):
        code, printed = command(verb, "--config", "digits", f"run={run}", *tiny, *words)
        if code:
            break
    assert code == 2
    assert message in printed
    assert len([line for line in printed.splitlines() if line.startswith("error: ")]) == 1
    assert not (run / "release").exists()


def test_an_unknown_preset_names_the_nearest(command):
    code, printed = command("teach", "--config", "digts")
    assert (code, "did you mean 'digits'" in printed) == (2, True)


def test_a_large_delta_is_warned_about(command, tiny, tmp_path):
    code, printed = command("sketch", "--config", "digits", f"run={tmp_path / 'r'}", *tiny, "privacy.delta=0.01")
    assert code == 0
    assert "warning: privacy.delta=0.01 is not below 1/200" in printed


def test_commands_before_their_time_say_what_to_run_first(command, tmp_path):
    code, printed = command("distill", "--config", "digits", f"run={tmp_path / 'r'}")
    assert (code, "dpsad teach" in printed) == (2, True)
    code, printed = command("sample", tmp_path, "--out", tmp_path / "s")
    assert (code, "dpsad distill" in printed) == (2, True)
    code, printed = command("evaluate", tmp_path)
    assert (code, "dpsad distill" in printed) == (2, True)
    code, printed = command("evaluate", tmp_path, "--protocol", "dpmd")
    assert (code, "must be one of quick, dpdm; did you mean 'dpdm'?" in printed) == (2, True)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tiny, tmp_path):
    words = [sys.executable, "-m", "dpsad.cli", "teach", "--config", "digits", f"run={tmp_path / 'r'}", *tiny]
    words.append("teacher.steps=100000")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "r" / "private" / "teach.checkpoint"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    step = load(checkpoint)["step"]
    assert 0 < step < 100_000


def test_a_refinement_that_was_stopped_goes_on_without_a_second_charge(finished, command, tiny, tmp_path, monkeypatch):
    run, teacher = tmp_path / "r", f"teacher.path={finished / 'private' / 'teacher.pt'}"
    words = ("distill", "--config", "digits", f"run={run}", *tiny, teacher)
    rows = dp_sgd_stage.per_example_gradients

    def interrupted_rows(*args):
        if not (run / "stopped").exists():
            (run / "stopped").touch()
            os.kill(os.getpid(), signal.SIGINT)
        return rows(*args)

    monkeypatch.setattr(dp_sgd_stage, "per_example_gradients", interrupted_rows)
    code, printed = command(*words)
    assert (code, "stopped after 1 steps" in printed) == (130, True)
    sanitizer = load(run / "private" / "refine.checkpoint")["parts"]["sanitizer"]
    assert (sanitizer["charged"], sanitizer["num_made"]) == (True, 1)
    assert not (run / "release").exists()
    code, printed = command(*words)
    assert code == 0, printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert [event["purpose"] for event in statement["events"]].count("refine, gradient rows") == 1
    assert load(run / "private" / "refine.checkpoint")["parts"]["sanitizer"]["num_made"] == 2


@pytest.mark.parametrize("teacher", ["none", "closed_form", "denoisers"])
def test_shards_release_a_student_that_records_refine(command, tiny, tmp_path, teacher):
    """One ledger, both units; whatever teaches a shard."""
    settings = [
        *tiny, f"run={tmp_path / 'run'}", "guarantee=shards", f"shards.teacher={teacher}", "shards.num_shards=20",
        "shards.queries=3", "shards.levels=[1, 0.5]", "shards.steps=2",
        "shards.batch_size=2", "shards.adversarial_weight=0.5", "shards.sampling_prob=0.5",
    ]  # fmt: skip
    assert command("teach", "--config", "digits", *settings)[0] == 0
    assert command("distill", f"run={tmp_path / 'run'}")[0] == 0
    statement = json.loads((tmp_path / "run" / "release" / "privacy.json").read_text())
    assert (statement["guarantee"], statement["formal"]) == ("shards", True)
    assert statement["unit"] == ["record", "shard"]
    shard_events = 2 if teacher == "none" else 3
    assert [event["unit"] for event in statement["events"]] == ["shard"] * shard_events + ["record"]
    assert [event["sampling_prob"] for event in statement["events"]] == [0.5] * shard_events + [0.2]
    assert 9.5 < statement["epsilon"] <= 10
    assert "guarantee `shards`" in (tmp_path / "run" / "release" / "README.md").read_text()
    code, printed = command("account", "--config", "digits", *settings)
    assert code == 0
    assert f"epsilon so far {statement['epsilon']:.3f}" in printed
    answers = load(tmp_path / "run" / "private" / "sketch.pt")["answers"]
    assert (0 if answers is None else len(answers["labels"])) == (0 if teacher == "none" else 2 * 3 * 10)


def test_without_noise_there_is_a_student_and_no_guarantee(command, tiny, tmp_path):
    settings = [*tiny, f"run={tmp_path / 'run'}", "privacy.epsilon=inf"]
    assert command("teach", "--config", "digits", *settings)[0] == 0
    assert command("distill", f"run={tmp_path / 'run'}")[0] == 0
    statement = json.loads((tmp_path / "run" / "release" / "privacy.json").read_text(), parse_constant=pytest.fail)
    assert (statement["formal"], statement["epsilon"]) == (False, None)
    assert statement["reasons"] == ["no noise was added, so there is no bound"]
    assert "NOT formally private" in (tmp_path / "run" / "release" / "README.md").read_text()


def test_inspect_tells_the_owner_and_refuses_in_a_line(command, tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.zeros((40, 4, 4), np.uint8), labels=np.arange(40) % 2)
    code, printed = command("inspect", tmp_path / "mine.npz", "--out", tmp_path / "mine.json")
    assert code == 0
    assert "for its owner's eyes" in printed
    assert "source: npz" in printed
    assert (tmp_path / "mine.json").is_file()
    code, printed = command("inspect", tmp_path / "gone")
    assert (code, printed.count("\n")) == (2, 1)
    assert "error: nothing at" in printed

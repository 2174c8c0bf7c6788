"""The door for notebooks: as safe as the commands, and as much to be had."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import dpsad
from dpsad.data.config import DataConfig
from dpsad.data.records import CLASSES_OF_DATA
from dpsad.data.sources import load_images
from dpsad.privacy.provenance import Provenance

TINY = {
    "network.channels": 8,
    "teacher.steps": 3,
    "student.steps": 2,
    "refine.steps": 2,
    "refine.batch_size": 40,
    "prototypes.per_class": [1, 4],
    "prototypes.rounds": [1, 2],
    "prototypes.shares": [0.4, 0.6],
    "sampler.steps": 2,
}


@pytest.fixture(scope="module")
def digits():
    """(images uint8 [200, 8, 8], labels) as a notebook has them."""
    bunch = load_digits()
    return (bunch.images[:200] * 15.9375).astype(np.uint8), bunch.target[:200]


def quiet(line):
    pass


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A student, and its run folder."""
    run = tmp_path_factory.mktemp("runs") / "run"
    return dpsad.train(*digits, epsilon=8, settings=TINY, run=run, say=quiet), run


def test_training_gives_a_formal_student_within_its_budget(trained):
    student, run = trained
    assert student.privacy.formal
    assert 7.8 < student.privacy.epsilon <= 8
    assert [event["unit"] for event in student.privacy.details["events"]] == ["record"] * 3
    assert any("number of records" in item for item in student.privacy.not_covered)
    assert CLASSES_OF_DATA in student.privacy.not_covered
    assert student.run == run
    images = student.sample([0, 1, 2], seeds=range(3))
    assert images.shape == (3, 1, 8, 8)
    assert torch.equal(student.sample([0, 1, 2]), images)
    assert "epsilon=" in repr(student)


def test_the_commands_go_on_from_it(trained, tmp_path, monkeypatch, capsys):
    from dpsad.cli import main

    _, run = trained
    monkeypatch.setattr("sys.argv", ["dpsad", "sample", str(run), "--num", "10", "--out", str(tmp_path / "a.npz")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    monkeypatch.setattr("sys.argv", ["dpsad", "evaluate", str(run)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "data.source=memory: these images came from a program" in capsys.readouterr().err


def test_it_saves_and_loads(trained, tmp_path):
    student, _ = trained
    folder = student.save(tmp_path / "release")
    loaded = dpsad.Student.from_pretrained(folder)
    assert torch.equal(loaded.sample([3, 4]), student.sample([3, 4]))
    assert (loaded.privacy, loaded.run) == (student.privacy, None)
    with pytest.raises(ValueError, match="is there already"):
        student.save(tmp_path / "release")


@pytest.mark.parametrize(("labels", "seeds", "message"), [([10], None, r"0\.\.9"), ([1, 2], [1], "1 seeds for 2")])
def test_samples_that_cannot_be_are_refused(trained, labels, seeds, message):
    with pytest.raises(ValueError, match=message):
        trained[0].sample(labels, seeds)


def test_a_run_goes_on_with_its_own_records_alone(trained, digits):
    """With other images, prototypes of the first would be released under a ledger that knows the second."""
    _, run = trained
    images, labels = digits
    with pytest.raises(ValueError, match=r"the records are not those that .* was begun with"):
        dpsad.train(images[:-1], labels[:-1], epsilon=8, settings=TINY, run=run, say=quiet)
    changed = images.copy()
    changed[7, 3, 3] ^= 1
    with pytest.raises(ValueError, match="the records are not those"):
        dpsad.train(changed, labels, epsilon=8, settings=TINY, run=run, say=quiet)
    again = dpsad.train(*digits, epsilon=8, settings=TINY, run=run, say=quiet)
    assert again.privacy == trained[0].privacy


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("gs-wgan", {"gs_wgan.steps": 2, "gs_wgan.num_shards": 20, "gs_wgan.shards_per_step": 4}),
        ("dp-sad", {**TINY, "shards.num_shards": 10, "shards.teacher": "denoisers", "shards.steps": 2}),
    ],
)
def test_a_run_by_shards_goes_on_with_its_own_shards_alone(digits, tmp_path, method, settings):
    """The same images under other ids: a record whose shard has changed would be in two shards' rows."""
    records = dpsad.image_set_of(*digits)
    call = {"method": method, "guarantee": "shards", "settings": settings, "run": tmp_path / "run", "say": quiet}
    dpsad.train(records, **call)
    shutil.rmtree(tmp_path / "run" / "release")
    private = tmp_path / "run" / "private"  # back to the shards, without what was made of their releases
    later = [private / f"{stage}.checkpoint" for stage in ("teach", "distill", "refine")]
    for path in (*private.glob("*.pt"), *later):
        path.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"was begun with other settings, another seed or other images"):
        dpsad.train(replace(records, ids=tuple(map(str, range(len(records))))), **call)
    assert dpsad.train(records, **call).privacy.formal


def test_stated_classes_are_not_read_off_and_a_limit_voids_the_claim(digits):
    images, labels = digits
    names = [str(digit) for digit in range(12)]
    student = dpsad.train(
        dpsad.image_set_of(images, labels, class_names=names), method="class-means", epsilon=8, say=quiet
    )
    assert student.class_names == tuple(names), "two classes are empty, and their rows are noise"
    assert student.privacy.formal
    assert CLASSES_OF_DATA not in student.privacy.not_covered
    limited = load_images(DataConfig(limit=100), "train")
    assert not dpsad.train(limited, method="class-means", epsilon=8, say=quiet).privacy.formal


def test_a_preset_with_batches_too_large_for_the_records_is_refused_before_any_work(digits, tmp_path):
    images, labels = digits
    with pytest.raises(ValueError, match=r"refine\.batch_size=700 is more than the 200 records there are; lower it"):
        dpsad.train(images, labels, preset="digits", run=tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_default_batches_go_by_the_stated_number_of_records(digits):
    """Else a record more would change them, and the sampling probability, although another number is stated."""
    images, labels = digits
    told = {**TINY, "privacy.num_records": 150, "network.channels": 8}
    del told["refine.batch_size"]
    events = [
        dpsad.train(images[:num], labels[:num], epsilon=8, settings=told, say=quiet).privacy.details["events"]
        for num in (200, 120)
    ]
    first, second = ([{**event, "charge_id": ""} for event in charged] for charged in events)
    assert first == second


@pytest.mark.parametrize("other", [{"epsilon": 4}, {"method": "dpdm"}, {"settings": {**TINY, "network.channels": 16}}])
def test_a_run_goes_on_with_its_own_settings_alone(trained, digits, other):
    _, run = trained
    with pytest.raises(ValueError, match="already holds another run"):
        dpsad.train(*digits, **{"epsilon": 8, "settings": TINY, "run": run, "say": quiet, **other})


def test_stages_in_one_go_are_charged_once(trained):
    """The prototypes' releases are charged when they are made, and again to the student's ledger: not twice to one."""
    student, run = trained
    purposes = [event["purpose"] for event in student.privacy.details["events"]]
    assert purposes == ["prototypes, 1 a class", "prototypes, 4 a class", "refine, gradient rows"]
    assert json.loads((run / "release" / "privacy.json").read_text())["method"] == "dp-sad"


def test_a_private_teacher_is_refused_as_a_command_would(digits):
    with pytest.raises(ValueError, match="provenance 'private'"):
        dpsad.train(*digits, settings={**TINY, "teacher.data": "private"}, say=quiet)


def test_the_seed_does_not_decide_the_noise(digits):
    """It is in the release's neighbour config.yaml, and whoever knew the noise could take it away."""
    first, second = (dpsad.train(*digits, method="class-means", seed=0, say=quiet) for _ in range(2))
    assert first.privacy.epsilon == second.privacy.epsilon
    assert first.privacy.formal
    assert not torch.equal(first.maker.model.images, second.maker.model.images)


def test_baselines_and_public_images(digits, tmp_path):
    images, labels = digits
    settings = {"dp_merf.steps": 2, "dp_merf.num_features": 40, "dp_merf.step_features": 0}
    student = dpsad.train(images, labels, method="dp-merf", epsilon=3, settings=settings, say=quiet)
    assert student.privacy.formal
    small = {"network.channels": 8, "pretrain.steps": 2, "baseline.steps": 2, "sampler.steps": 2}
    with pytest.raises(ValueError, match="method=dp-diffusion learns from public images; pass public="):
        dpsad.train(images, labels, method="dp-diffusion", settings=small, say=quiet)
    public = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    student = dpsad.train(
        images, labels, method="dp-diffusion", settings=small, public=public, public_labels=np.arange(30) % 3, say=quiet
    )
    assert 9 < student.privacy.epsilon <= 10


@pytest.mark.parametrize("settings", [{"teacher.data": "public", "refine.steps": 0}, {"method": "dp-diffusion"}])
def test_records_are_not_public_because_they_are_passed_so(digits, settings):
    images, labels = digits
    settings = dict(settings)
    told = {"method": settings.pop("method", "dp-sad"), "settings": {**TINY, **settings}, "say": quiet}
    reordered = torch.from_numpy(images / 127.5 - 1).flip(0)[:, None]
    for public in (images, images[50:60], reordered):
        with pytest.raises(ValueError, match="the public images: some of the images that were taken to be public are"):
            dpsad.train(images, labels, public=public, public_labels=np.arange(len(public)) % 10, **told)


def test_an_image_set_is_taken_as_it_is(digits):
    records = load_images(DataConfig(), "train")
    assert records.provenance is Provenance.PRIVATE
    with pytest.raises(ValueError, match="labels beside an ImageSet"):
        dpsad.train(records, digits[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: {"images": records.images * 300}, r"outside \[-1, 1\]; rescale the images"),
        (lambda records: {"images": records.images[:, 0]}, r"expected \[num, chan, height, width\]"),
        (lambda records: {"images": records.images.double()}, r"images torch\.float64, .*; pass torch\.float32"),
        (lambda records: {"labels": records.labels.float()}, r"labels torch\.float32; pass"),
        (
            lambda records: {"read_off": (CLASSES_OF_DATA,), "labels": records.labels + 1},
            r"label 10 of .* outside 0\.\.9",
        ),
    ],
)
def test_an_image_set_is_checked(change, message):
    records = load_images(DataConfig(), "train")
    broken = replace(records, **change(records))
    public = {"method": "dp-diffusion", "settings": {"network.channels": 8}, "public": broken}
    for call in ({"images": broken, "method": "class-means"}, {"images": records, **public}):
        with pytest.raises(ValueError, match=message):
            dpsad.train(**call, say=quiet)


def test_a_record_outside_stated_classes_is_left_out():
    records = load_images(DataConfig(), "train")
    labels = records.labels.clone()
    labels[7] = 10
    student = dpsad.train(replace(records, labels=labels, read_off=()), method="class-means", delta=1e-6, say=quiet)
    assert student.privacy.formal


def test_a_plan_says_what_a_run_will_cost(trained):
    plan = dpsad.plan(200, epsilon=8, settings=TINY)
    assert plan.epsilon == pytest.approx(trained[0].privacy.epsilon, rel=1e-9)
    assert [release.purpose for release in plan.releases][-1] == "refine, gradient rows"
    assert "cross-check: " in str(plan)
    assert dpsad.plan(60_000, preset="mnist-dpdm", method="dpdm", epsilon=1).epsilon <= 1
    assert dpsad.plan(500, guarantee="nominal", settings={"teacher.data": "private"}).epsilon == 0


def test_measuring_and_comparing(trained, digits, tmp_path):
    student, run = trained
    result = dpsad.evaluate(student, *digits, num=100, classifiers=["logistic"])
    assert 0 <= result.student.classifiers["logistic"].accuracy <= 1
    assert (run / "private" / "evaluation.json").exists()
    comparison = dpsad.compare([student], out=tmp_path / "page")
    assert comparison.page.exists()
    assert comparison.runs[0].evaluation.student.num_images == 100
    with pytest.raises(ValueError, match="the student makes images of shape"):
        dpsad.evaluate(student, np.zeros((20, 9, 9), np.uint8), np.arange(20) % 10)
    alone = dpsad.Student.from_pretrained(student.save(tmp_path / "release"))
    with pytest.raises(ValueError, match="no run folder to compare"):
        dpsad.compare([alone])

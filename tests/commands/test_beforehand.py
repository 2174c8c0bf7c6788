"""What would stop a run after a part of its budget was spent is refused before, and the folder is as it was.

Each row of the table is tried in a folder that is not there and in one that was begun; then its mend is followed.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpsad.api import beforehand
from dpsad.privacy.ledger import Ledger
from dpsad.release.students import ReleaseConfig
from dpsad.runtime.config_files import load_config

SKETCH = (
    "sketch", "network.channels=8", "prototypes.per_class=[1]", "prototypes.rounds=[1]", "prototypes.shares=[1.0]",
    "teacher.steps=2", "student.steps=1", "student.adversarial_weight=0", "refine.steps=1", "refine.batch_size=20",
    "refine.chunk_size=5",
)  # fmt: skip
DPDM = (
    "baseline",
    "method=dpdm",
    "network.channels=8",
    "baseline.steps=1",
    "baseline.batch_size=20",
    "sampler.steps=1",
)
SHARDS = (*SKETCH, "guarantee=shards", "shards.num_shards=20", "shards.teacher=none")
GS_WGAN = (
    "baseline", "method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=20", "gs_wgan.shards_per_step=3",
    "gs_wgan.steps=1", "gs_wgan.critic_steps=1", "gs_wgan.warm_steps=0",
)  # fmt: skip
CLASS_MEANS = ("baseline", "method=class-means")
DP_MERF = (
    "baseline", "method=dp-merf", "dp_merf.num_features=10", "dp_merf.step_features=4", "dp_merf.steps=1",
    "dp_merf.batch_size=4",
)  # fmt: skip
SMALL = ("data.path=small.npz",)
REFUSED = {  # a kind of fault -> command, what is wrong, what is said, what mends it in the same folder
    "batch": (SKETCH, ["refine.batch_size=400"], ["refine.batch_size=400", "40 records"], ["refine.batch_size=40"]),
    "baseline's batch": (DPDM, ["baseline.batch_size=41"], ["=41", "40 records"], ["baseline.batch_size=40"]),
    "shards": (SHARDS, ["shards.num_shards=41"], ["shards.num_shards=41", "40 records"], ["shards.num_shards=40"]),
    "critics": (GS_WGAN, ["gs_wgan.num_shards=41"], ["num_shards=41", "40 records"], ["gs_wgan.num_shards=40"]),
    "discriminator": (
        (*SKETCH, *SMALL), ["student.adversarial_weight=1"], ["3x3", "discriminator"], ["student.adversarial_weight=0"]
    ),
    "feature matching": (
        (*SKETCH, *SMALL), ["discriminator.feature_matching=1"], ["3x3", "feature_matching=0"],
        ["discriminator.feature_matching=0"],
    ),
    "guide's network": ((*SKETCH, *SMALL), ["guide.share=0.1"], ["3x3", "guide.features"], ["guide.share=0"]),
    "shortening's network": ((*SKETCH, *SMALL), ["shorten.steps=1"], ["3x3", "shorten.steps"], ["shorten.steps=0"]),
    "shortening's images": (
        SKETCH, ["shorten.steps=1", "shorten.images=900000000"], ["shorten.images=900000000", "GB of memory"],
        ["shorten.images=20"],
    ),
    "guide's images": (
        SKETCH, ["guide.share=0.1", "guide.images=900000000"], ["guide.images=900000000", "GB of memory"],
        ["guide.images=20"],
    ),
    "guide's weights": (
        SKETCH, ["guide.share=0.1", "guide.features=[resnet18]", "guide.weights=none.pt"], ["none.pt", "resnet18"],
        ["guide.share=0"],
    ),
    "rows": (
        (*SKETCH, "privacy.num_records=900000000", "refine.batch_size=400000000"), ["refine.chunk_size=400000000"],
        ["refine.chunk_size=400000000", "GB of memory"], ["refine.chunk_size=5"],
    ),
    "rows of a baseline": (
        (*DPDM, "privacy.num_records=900000000", "baseline.batch_size=400000000"), ["baseline.chunk_size=400000000"],
        ["baseline.chunk_size=400000000", "GB of memory"], None,
    ),
    "critics' memory": (
        (*GS_WGAN, "privacy.num_records=900000000"), ["gs_wgan.num_shards=900000000"], ["num_shards", "GB of memory"],
        ["gs_wgan.num_shards=20"],
    ),
    "features' memory": (
        DP_MERF, ["dp_merf.num_features=1000000000"], ["num_features=1000000000", "GB"], ["dp_merf.num_features=10"]
    ),
    "delta": (
        (*DPDM, "privacy.epsilon=1", "baseline.batch_size=1"), ["privacy.delta=0.6"],
        ["privacy.delta=0.6", "below one over"], ["privacy.delta=0.001"],
    ),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with forty images of two classes, 8x8, and 3x3 in small.npz."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    for name, side in (("images", 8), ("small", 3)):
        train, test = pixels[:40, :side, :side], pixels[40:, :side, :side]
        np.savez(f"{name}.npz", train_images=train, train_labels=labels, test_images=test, test_labels=labels)
    return tmp_path


@pytest.fixture
def charges(monkeypatch):
    """What ledgers were charged with from here on."""
    made, enter = [], Ledger._enter
    monkeypatch.setattr(Ledger, "_enter", lambda self, *args: (made.append(args), enter(self, *args))[1])
    return made


DATA = ("data.source=npz", "data.path=images.npz", "privacy.epsilon=inf", "privacy.delta=1e-3")


def words_of(command, *more, run="deep/run"):
    return [command[0], f"run={run}", *DATA, *command[1:], *more]


def contents(folder):
    """Every name below a folder and what is in it, but for the lock."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*") if path.name != "lock"}


def refused(command, words, says):
    code, printed = command(*words)
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (2, 1), printed
    assert "Traceback" not in printed
    for text in says:
        assert text in lines[0], lines[0]


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_before_a_charge_and_its_mend_can_be_followed(here, command, charges, kind):
    verb, wrong, says, mend = REFUSED[kind]
    before = contents(here)
    refused(command, words_of(verb, *wrong), says)
    assert contents(here) == before, "a folder was made"
    begin(command, verb)
    before = contents(here)
    refused(command, words_of(verb, *wrong), says)
    assert contents(here) == before, "a folder that was begun is another"
    assert charges == []
    if mend is not None:
        code, printed = command(*words_of(verb, *wrong, *mend))
        assert code == 0, printed
        assert charges or "sketch" not in verb


def begin(command, verb, run="deep/run"):
    """A folder that a command has made, as one leaves it that was killed before it had read anything."""
    from dpsad.commands.read import read_config
    from dpsad.runtime.run_folder import open_run

    open_run(run, read_config(None, words_of(verb, run=run)[1:]))


def test_a_disk_that_is_full_soon(here, command, charges, monkeypatch):
    usage = shutil.disk_usage(here)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1_000_000))
    for verb in (SKETCH, DPDM, CLASS_MEANS):
        before = contents(here)
        refused(command, words_of(verb), ["run=deep/run", "GB", "free some space"])
        assert (contents(here), charges) == (before, [])
    monkeypatch.undo()
    os.chdir(here)
    assert command(*words_of(CLASS_MEANS))[0] == 0


def test_a_package_that_is_not_installed(here, command, charges, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    before = contents(here)
    refused(command, words_of(SKETCH, "log.tensorboard=true"), ["log.tensorboard=true", "pip install"])
    assert (contents(here), charges) == (before, [])


PLACES = {
    "release": lambda path: path.write_text("mine"),
    "release/mine.txt": lambda path: (path.parent.mkdir(), path.write_text("mine")),
    "metrics.jsonl": Path.mkdir,
    "private/metrics.jsonl": Path.mkdir,
    "private/teacher.pt": Path.mkdir,
    "private/refine.checkpoint": Path.mkdir,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_the_run_will_write_to_is_taken(here, command, charges, place):
    begin(command, SKETCH)
    PLACES[place](here / "deep" / "run" / place)
    before = contents(here)
    refused(command, words_of(SKETCH), [place.removesuffix("/mine.txt")])
    assert (contents(here), charges) == (before, [])


@pytest.mark.parametrize("name", [b"a\xff", b"\xed\xa0\x80"])
@pytest.mark.parametrize("verb", [SKETCH, CLASS_MEANS, DPDM], ids=lambda words: words[1])
def test_a_class_whose_name_no_release_can_hold(here, command, charges, verb, name):
    for side in (b"train", b"test"):
        for folder in (name, b"b"):
            os.makedirs(b"images/" + side + b"/" + folder)
            for place in range(40):
                with open(b"images/" + side + b"/" + folder + b"/%d.png" % place, "wb") as file:
                    Image.fromarray(np.full((8, 8), place, np.uint8)).save(file, "PNG")
    refused(command, words_of(verb, "data.source=folder", "data.path=images"), ["UTF-8", "rename"])
    assert not (here / "deep").exists()
    assert charges == []


def test_a_candidate_that_could_not_be_trained(here, command, charges):
    tries = ("--try", "student.adversarial_weight=0,1")
    words = words_of(("tune", *SKETCH[1:], *SMALL, "privacy.epsilon=5", "refine.steps=0"))
    before = contents(here)
    refused(command, [*words, *tries], ["3x3", "student.adversarial_weight=0"])
    assert (contents(here), charges) == (before, [])


def test_runs_on_half_of_the_records_that_could_not_be_trained(here, command):
    assert command(*words_of(DPDM, "baseline.batch_size=30"))[0] == 0
    before = contents(here)
    refused(command, ["audit", "deep/run", "--shadows", 3], ["--shadows", "baseline.batch_size=30"])
    assert contents(here) == before


@pytest.mark.parametrize("path", ["small.npz", "none.npz"])
def test_what_could_not_be_evaluated_is_not_begun_by_a_chain(here, command, charges, path):
    np.savez("none.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.zeros(3, int))
    before = contents(here)
    refused(command, ["quickstart", "run=deep/run", *DATA, *SKETCH[1:], f"data.path={path}"], [path[:0] or "data."])
    assert (contents(here), charges) == (before, [])


@pytest.mark.parametrize("verb", [CLASS_MEANS, DPDM, DP_MERF, GS_WGAN], ids=lambda words: words[1])
def test_a_rehearsal_is_of_what_will_be_released(here, command, verb, monkeypatch):
    seen = []
    monkeypatch.setattr(beforehand, "CHECKS", (lambda prospect: seen.append(prospect.rehearsal.made.config),))
    code, printed = command(*words_of(verb))
    assert code == 0, printed
    assert load_config(ReleaseConfig, base=here / "deep/run/release/config.yaml", overrides=()) == seen[0]


def test_an_interrupted_start_leaves_nothing(here, command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dpsad.api.launch.load_images", interrupted)
    before = contents(here)
    assert command(*words_of(SKETCH))[0] == 130
    assert contents(here) == before


def test_an_empty_folder_of_ones_own_stays(here, command):
    (here / "deep" / "run").mkdir(parents=True)
    before = contents(here)
    refused(command, words_of(SKETCH, "refine.batch_size=400"), ["400"])
    assert contents(here) == before


# which key changes after which command, and whether it may
STEPS = [
    ("sketch", "network.channels=16", True),
    ("sketch", "teacher.steps=3", True),
    ("sketch", "augmentation.shift=0.1", True),
    ("sketch", "refine.steps=2", True),
    ("sketch", "refine.batch_size=10", True),
    ("sketch", "public_data.source=folder", True),
    ("sketch", "sampler.steps=2", True),
    ("sketch", "refine.steps=0", "noise that was planned by"),
    ("sketch", "privacy.epsilon=3", "privacy.epsilon"),
    ("sketch", "prototypes.clip_rms=0.1", "prototypes.clip_rms"),
    ("sketch", "seed=1", "seed"),
    ("sketch", "method=dpdm", "method"),
    ("teach", "student.steps=2", True),
    ("teach", "refine.batch_size=10", True),
    ("teach", "network.channels=16", "network.channels"),
    ("teach", "teacher.learning_rate=0.1", "teacher.learning_rate"),
    ("distill", "sampler.steps=3", "sampler.steps"),
    ("distill", "refine.clip_norm=3", "refine.clip_norm"),
    ("distill", "device=cpu", True),
    ("distill", "baseline.steps=3", True),
]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A run after each of its stages."""
    folder, verbs = tmp_path_factory.mktemp("stages"), ("sketch", "teach", "distill")
    labels = np.arange(40) % 2
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=labels)
    from dpsad.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb in verbs:
            patch.setattr(sys, "argv", words_as_typed(verb))
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code
            shutil.copytree("run", verb)
    return folder


def words_as_typed(verb, *more, run="run"):
    return ["dpsad", *words_of((verb, *SKETCH[1:]), *more, run=run)]


@pytest.mark.parametrize(("after", "key", "may"), STEPS)
def test_a_key_is_settled_by_the_stage_that_goes_by_it(stages, command, monkeypatch, after, key, may):
    monkeypatch.chdir(stages)
    shutil.rmtree("run")
    shutil.copytree(after, "run")
    before = contents(stages / "run")
    verb = "sketch" if after == "sketch" else after
    code, printed = command(*words_as_typed(verb, key)[1:])
    if may is True:
        assert code == 0, printed
        name, _, value = key.partition("=")
        saved = json.dumps(load_yaml("run/config.yaml"))
        assert f'"{name.rpartition(".")[2]}": ' in saved
        assert value in saved
    else:
        assert (code, may in printed, "another run=..." in printed) == (2, True, True), printed
        assert contents(stages / "run") == before


def load_yaml(path):
    import yaml

    return yaml.safe_load(Path(path).read_text())


def test_what_a_second_run_costs_is_said_where_it_begins(here, command):
    budget = ("privacy.epsilon=1", "privacy.delta=1e-3")
    code, first = command(*words_of(CLASS_MEANS, *budget, run="runs/a"))
    assert (code, "of the same records" in first) == (0, False)
    before = contents(here / "runs" / "a")
    code, second = command(*words_of(CLASS_MEANS, *budget, run="runs/b"))
    assert code == 0
    said = next(line for line in second.splitlines() if line.startswith("note: "))
    assert said.startswith("note: a released of the same records; with what this run will release, together: epsilon ")
    assert "dpsad ledger" in said
    _, listed = command("ledger", "runs")
    together = next(line for line in listed.splitlines() if line.startswith("together: "))
    assert together in said, "the sum that the ledger has afterwards"
    assert contents(here / "runs" / "a") == before
    code, third = command(*words_of(CLASS_MEANS, *budget, *SMALL, run="runs/c"))
    assert (code, "of the same records" in third) == (0, False)


def test_a_neighbour_that_cannot_be_read_is_passed_over(here, command):
    assert command(*words_of(CLASS_MEANS, run="runs/a"))[0] == 0
    (here / "runs" / "a" / "release" / "privacy.json").write_text("{")
    (here / "runs" / "file").write_text("x")
    code, printed = command(*words_of(CLASS_MEANS, run="runs/b"))
    assert (code, "of the same records" in printed) == (0, False), printed

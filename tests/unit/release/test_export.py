"""A release holds numbers alone: what is NaN or infinite is neither exported nor loaded."""

import math
from itertools import chain, repeat

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpsad.api.config import Config
from dpsad.api.student import Student
from dpsad.cli import main
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.statement import formal_statement
from dpsad.release import export
from dpsad.release.export import export_release, load_student
from dpsad.release.students import Releasable, ReleaseConfig, guided_release
from dpsad.runtime.run_folder import WEIGHTS, open_run
from students.guide import new_guide
from students.prototypes import Prototypes
from students.seeds import image_seeds
from students.spread import Spread
from students.varied_prototypes import HeldPrototypes

STATEMENT = {**formal_statement(Ledger(1.0, 1e-5), guarantee="records", size_is_public=False), "method": "class-means"}


def releasable(pixel=0.0):
    images = torch.zeros(2, 1, 8, 8)
    images[1, 0, 3, 3] = pixel
    held = HeldPrototypes(Prototypes(images, torch.arange(2), torch.full((2,), 20.0), 1.0))
    config = ReleaseConfig(kind="images", image_shape=(1, 8, 8), class_names=("a", "b"), num_prototypes=2)
    return Releasable(held, config)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_not_exported(tmp_path, value):
    with pytest.raises(ValueError, match="the student has weights that are NaN or infinite; nothing was released"):
        export_release(tmp_path / "release", releasable(value), STATEMENT)
    assert not any(tmp_path.iterdir())


def test_finite_weights_whose_images_are_not_are_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr("students.varied_prototypes.vary", lambda images, *rest: images / 0)
    with pytest.raises(ValueError, match="20 of 20 images have NaN or infinite pixels"):
        export_release(tmp_path / "release", releasable(), STATEMENT)
    assert not any(tmp_path.iterdir())


def test_a_student_is_of_one_release_though_another_takes_its_place_while_it_is_read(tmp_path, monkeypatch):
    """Replaced after the statement and the config of the first were read, and before its weights were."""
    export_release(tmp_path / "release", releasable(0.25), {**STATEMENT, "method": "dp-sad"})
    load, places = export.load_weights, chain([True], repeat(False))

    def replaced_meanwhile(*told):
        if next(places):
            export_release(tmp_path / "release", releasable(0.5), STATEMENT)
        return load(*told)

    monkeypatch.setattr(export, "load_weights", replaced_meanwhile)
    student = Student.from_pretrained(tmp_path / "release")
    assert (student.privacy.details["method"], student.maker.model.prototypes().images.max()) == ("class-means", 0.5)


def test_a_spread_is_handed_out_with_its_prototypes(tmp_path, rng):
    spread = Spread(torch.randn(3, 64, generator=rng) / 50, torch.randn(2, 3, 3, generator=rng))
    prototypes = Prototypes(torch.zeros(4, 1, 8, 8), torch.arange(4) // 2, torch.full((4,), 20.0), 1.0, spread=spread)
    sizes = {"num_prototypes": 4, "spread_dim": 3, "spread_groups": 2}
    config = ReleaseConfig(kind="images", image_shape=(1, 8, 8), class_names=("a", "b"), **sizes)
    made = Releasable(HeldPrototypes(prototypes), config)
    export_release(tmp_path / "release", made, STATEMENT)
    labels, seeds = torch.arange(6) % 2, image_seeds(0, 6)
    images = load_student(tmp_path / "release").sample(labels, seeds)
    assert torch.equal(images, made.student().sample(labels, seeds))
    assert len(images.flatten(1).unique(dim=0)) == 6
    assert torch.equal(Prototypes.from_dict(prototypes.state_dict()).spread.factors, spread.factors)


def test_a_guide_is_handed_out_with_its_features(tmp_path, rng):
    """Of every kind of network, with the proposals that say as what images are made."""
    kinds, sizes = ("scattering", "samples", "resnet18"), (3, 4, 5)
    guide = new_guide(kinds, sizes, (1, 8, 8), 2).eval()
    for weight in (*guide.parameters(), *guide.whitenings.buffers()):
        weight.data.copy_(torch.randn(weight.shape, generator=rng) / 20)
    guide.proposals = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    export_release(tmp_path / "release", guided_release(releasable(0.5), guide, kinds, 3), STATEMENT)
    loaded = load_student(tmp_path / "release").model.guide
    images = torch.rand(2, 1, 8, 8, generator=rng)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), guide(images))
    assert loaded.num_directions == sizes
    assert torch.equal(loaded.proposals, guide.proposals)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_release_of_nan_is_not_used(tmp_path, monkeypatch, capsys, value):
    """From Python, and by `dpsad sample`, which writes nothing."""
    run = open_run(tmp_path / "run", Config())
    export_release(run.release, releasable(), STATEMENT)
    load_student(run.release)
    weights = load_file(run.release / WEIGHTS)
    weights["images"][0, 0, 0, 0] = value
    save_file(weights, run.release / WEIGHTS)
    with pytest.raises(ValueError, match="release has weights that are NaN or infinite"):
        load_student(run.release)
    out = tmp_path / "samples.npz"
    monkeypatch.setattr("sys.argv", ["dpsad", "sample", str(run.path), "--num", "4", "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code, out.exists()) == (2, False)
    assert "NaN or infinite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--num", "inf"], ["--num", "1" + "0" * 400], ["--seed", "nan"], ["--seed", "9" * 30]]
)
def test_numbers_beside_the_config_have_ranges_too(monkeypatch, capsys, words):
    monkeypatch.setattr("sys.argv", ["dpsad", "sample", "nowhere", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert words[0] in capsys.readouterr().err

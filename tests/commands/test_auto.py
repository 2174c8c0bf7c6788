"""From a folder to a release: what `dpsad auto` chooses, says, refuses, and makes."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from dpsad.api.config import Config
from dpsad.api.forecast import forecast
from dpsad.commands import auto, chain, evaluate
from dpsad.commands.auto import auto_config
from dpsad.runtime.config_files import load_config

TINY = ("network.channels=8", "teacher.steps=3", "student.steps=2", "sampler.steps=2", "privacy.epsilon=20")


@pytest.fixture
def digits(tmp_path):
    """A folder of zeros and ones, 120 of each, and five twos."""
    bunch = load_digits()
    for label, name, num in ((0, "zero", 120), (1, "one", 120), (2, "two: ü", 5)):
        folder = tmp_path / "digits" / name
        folder.mkdir(parents=True)
        for index, image in enumerate(bunch.images[bunch.target == label][:num]):
            Image.fromarray((image * 15.9375).astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "digits"


def test_a_folder_becomes_a_release_an_evaluation_and_a_page(digits, tmp_path, command, monkeypatch):
    monkeypatch.setattr(auto, "LEAST", 30)
    monkeypatch.setattr(auto, "MOST", 30)
    monkeypatch.setattr(evaluate, "REFERENCE_BATCHES", 3)
    monkeypatch.setattr(chain, "evaluate_run", partial(evaluate.evaluate_run, classifiers=["logistic"], compare=False))
    run = tmp_path / "run"
    code, printed = command("auto", digits, f"run={run}", *TINY)
    assert code == 0, printed
    assert printed.index("forecast, from public numbers: 200 records in 3 classes, 8x8 grey") < printed.index("teach")
    assert "class 'two: ü' has a released count of" in printed
    assert "class 'zero'" not in printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert statement["formal"]
    assert 19 < statement["epsilon"] <= 20
    assert (run / "private" / "evaluation.json").is_file()
    assert (run / "private" / "report" / "report.html").is_file()
    config = load_config(Config, base=run / "config.yaml", overrides=())
    assert config.privacy.num_records == 200
    assert config.data.class_names == ("one", "two: ü", "zero")

    # the same command goes on, by what the run was told, and releases nothing again
    (digits / "zero" / "one more.txt").write_text("", encoding="utf-8")
    code, printed = command("auto", digits, f"run={run}")
    assert code == 0, printed
    assert json.loads((run / "release" / "privacy.json").read_text()) == statement


def test_noise_is_refused_with_numbers_that_would_do_and_nothing_is_left(digits, tmp_path, command, monkeypatch):
    run = tmp_path / "run"
    code, printed = command("auto", digits, f"run={run}", "privacy.epsilon=0.2")
    assert code == 2
    refusal = printed.splitlines()[-1]
    assert refusal.startswith(
        "error: privacy.epsilon=0.2 with privacy.num_records=200 in 3 classes: classes will be noise"
    )
    assert not run.exists()
    monkeypatch.setattr(auto, "run_chain", lambda *_, **__: pytest.fail("told to"))
    needed = refusal.partition("would do: privacy.epsilon=")[2].partition(",")[0]
    assert not forecast(auto_config(digits, [f"privacy.epsilon={needed}"], minutes=20)).is_noise
    with pytest.raises(pytest.fail.Exception, match="told to"):
        command("auto", digits, f"run={run}", "privacy.epsilon=0.2", "--anyway")


def test_nothing_that_is_chosen_depends_on_more_than_what_is_stated(digits):
    """Other images of other classes in other proportions, of which the same is stated: the same settings."""
    stated = ["privacy.num_records=300", "data.class_names=[one,'two: ü',zero]", "data.image_size=8", "data.grey=true"]
    before = auto_config(digits, stated, minutes=5)
    for file in sorted((digits / "zero").iterdir())[:90]:
        file.unlink()
    for index in range(40):
        Image.fromarray(np.full((11, 9), index, dtype=np.uint8)).save(digits / "two: ü" / f"new{index}.png")
    assert auto_config(digits, stated, minutes=5) == before


def test_what_is_said_is_not_chosen(digits):
    said = ["prototypes.per_class=[1,2]", "prototypes.rounds=[1,1]", "prototypes.shares=[0.5,0.5]", "teacher.steps=7"]
    config = auto_config(digits, [*said, "privacy.delta=1e-7", "privacy.num_records=150"], minutes=5)
    assert (config.prototypes.per_class, config.teacher.steps) == ((1, 2), 7)
    assert (config.privacy.delta, config.privacy.num_records) == (1e-7, 150)


def test_account_prints_the_same_forecast(digits, tmp_path, command):
    config = auto_config(digits, ["privacy.epsilon=3"], minutes=20)
    told = ("privacy.epsilon=3", "privacy.num_records=200", "data.class_names=[one,two,zero]", "data.image_size=8")
    told += ("data.grey=true", "data.source=folder", "data.path=x", "refine.steps=0", "network.channels=24")
    told += tuple(
        f"prototypes.{key}={json.dumps(getattr(config.prototypes, key))}"
        for key in ("per_class", "rounds", "shares", "clip_rms", "min_count")
    )
    code, printed = command("account", *told)
    assert code == 0, printed
    for line in forecast(config).lines()[:-1]:
        assert line in printed
    assert "forecast" not in command("account", "--config", "digits", "data.source=folder", "data.path=x")[1]


def test_data_of_which_too_little_is_known_is_refused(tmp_path, command):
    (tmp_path / "mine").mkdir()
    code, printed = command("auto", tmp_path / "mine")
    assert code == 2
    assert "Traceback" not in printed

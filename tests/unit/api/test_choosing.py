import pytest

from dpsad.api.choosing import PublicNumbers, chosen, mends
from dpsad.api.config import Config
from dpsad.api.forecast import LEGIBLE, forecast, noise_on_prototypes
from dpsad.commands.auto import _plain
from dpsad.commands.proposal import as_yaml
from dpsad.commands.read import read_config
from dpsad.data.stated import Form
from dpsad.privacy.config import PrivacyConfig
from dpsad.privacy.ledger import Ledger
from dpsad.runtime.config_files import load_config

GREY8, GREY, COLOUR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


def config_of(tmp_path, num_records, num_classes, shape, epsilon, **more):
    """What is chosen for these numbers, as a run would read it."""
    numbers = PublicNumbers(
        privacy=PrivacyConfig(epsilon=epsilon, num_records=num_records), form=Form(num_classes, shape), **more
    )
    sections = {name: _plain(section) for name, section in chosen(numbers).items()}
    sections["data"] = {"source": "folder", "path": "x", "num_classes": num_classes, "image_size": shape[1]}
    sections["data"] |= {"colour" if shape[0] == 3 else "grey": True}
    sections["privacy"] |= {"epsilon": epsilon, "num_records": num_records}
    (tmp_path / "chosen.yaml").write_text(as_yaml(sections), encoding="utf-8")
    return load_config(Config, base=tmp_path / "chosen.yaml", overrides=())


@pytest.mark.parametrize(
    ("num_records", "num_classes", "shape", "epsilon", "finest", "refines"),
    [
        (261, 3, GREY8, 8, 4, False),
        (261, 3, GREY, 1, 0, False),
        (2400, 2, GREY, 8, 16, True),
        (938, 3, COLOUR, 8, 4, False),
        (938, 3, COLOUR, 1, 1, False),
        (15_000, 3, COLOUR, 8, 64, True),
        (1000, 100, GREY, 1, 0, False),
        (1000, 100, GREY, 20, 1, False),
        (1013, 3, GREY, 8, 16, False),
        (60_000, 10, GREY, 10, 64, True),
        (60_000, 10, GREY, 1, 16, True),
        (3, 3, GREY, 1, 0, False),
        (1, 1, (1, 1, 1), 0.1, 0, False),
        (10**9, 1000, (3, 512, 512), 500, 64, True),
    ],
)
def test_what_is_chosen_is_a_plan_within_the_budget(
    tmp_path, num_records, num_classes, shape, epsilon, finest, refines
):
    config = config_of(tmp_path, num_records, num_classes, shape, epsilon)
    plans = config.trained_by().plans(config.settings(), Ledger.of(config.privacy), num_records)
    assert Ledger.of(config.privacy).planned(plans).spent() <= epsilon
    found = forecast(config)
    assert found.finest == finest
    assert bool(config.refine.steps) == refines
    assert len(found.prototypes) == 1 or all(noise.legible for noise in found.prototypes)


@pytest.mark.parametrize(("preset", "epsilon"), [("mnist", 10), ("mnist-epsilon1", 1)])
def test_on_sixty_thousand_digits_it_is_the_preset(tmp_path, preset, epsilon):
    ours, theirs = config_of(tmp_path, 60_000, 10, GREY, epsilon), read_config(preset, [])
    for section, keys in {
        "privacy": ("split",) if theirs.guide.share == 0 else (),  # a guide, which it does not choose, takes its part
        "prototypes": ("per_class", "rounds", "shares", "min_count"),
        "refine": ("steps", "batch_size", "learning_rate", "clip_norm", "sigma_mean"),
        "network": ("channels", "multipliers", "patch"),
        "teacher": ("steps", "batch_size", "learning_rate"),
        "student": ("steps", "batch_size"),
        "sampler": ("steps", "sigma_max"),
    }.items():
        for key in keys:
            assert getattr(getattr(ours, section), key) == getattr(getattr(theirs, section), key), key


def test_minutes_and_a_gpu_change_training_and_no_release(tmp_path):
    usual = config_of(tmp_path, 60_000, 10, GREY, 10)
    hasty = config_of(tmp_path, 60_000, 10, GREY, 10, minutes=4)
    large = config_of(tmp_path, 60_000, 10, GREY, 10, on_gpu=True)
    assert hasty.teacher.steps < usual.teacher.steps < large.teacher.steps
    assert usual.network.channels < large.network.channels
    for config in (hasty, large):
        assert (config.privacy, config.prototypes, config.refine) == (usual.privacy, usual.prototypes, usual.refine)


@pytest.mark.parametrize(
    ("num_records", "num_classes", "epsilon"), [(1000, 100, 1.0), (30, 3, 0.5), (60_000, 10, 0.0005)]
)
def test_each_mend_is_enough_and_a_third_less_of_it_is_not(num_records, num_classes, epsilon):
    def noise(num_records=num_records, num_classes=num_classes, epsilon=epsilon):
        privacy, form = PrivacyConfig(epsilon=epsilon, num_records=round(num_records)), Form(round(num_classes), GREY)
        sections = {name: _plain(part) for name, part in chosen(PublicNumbers(privacy=privacy, form=form)).items()}
        texts = [f"prototypes.{key}={value}" for key, value in sections["prototypes"].items()]
        texts += ["refine.steps=0", f"privacy.epsilon={epsilon}", f"privacy.num_records={round(num_records)}"]
        return noise_on_prototypes(read_config(None, texts).settings(), form, privacy.num_records)[0].of_shapes

    found = mends(
        PublicNumbers(privacy=PrivacyConfig(epsilon=epsilon, num_records=num_records), form=Form(num_classes, GREY))
    )
    assert noise(epsilon=found["epsilon"]) <= LEGIBLE < noise(epsilon=found["epsilon"] * 2 / 3)
    assert noise(num_records=found["records"]) <= LEGIBLE < noise(num_records=found["records"] * 2 / 3)
    if found["classes"] is not None:
        assert noise(num_classes=found["classes"]) <= LEGIBLE < noise(num_classes=found["classes"] * 1.5)

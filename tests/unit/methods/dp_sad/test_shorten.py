"""Shortening: few steps land where many did, and nothing else of a release changes."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from dpsad.api.config import Config
from dpsad.data.augmentation import AugmentationConfig
from dpsad.methods.dp_sad import shorten
from dpsad.methods.dp_sad.distillation import StudentConfig
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.shorten import ShortenConfig, shortened
from dpsad.privacy.provenance import Provenance
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.runtime.run_folder import open_run
from students.few_step import SamplerConfig
from students.from_prototypes import StartedDenoiser
from students.prototypes import Prototypes
from students.seeds import image_seeds

SHORT = ShortenConfig(steps=60, images=300, batch_size=32, evaluations=2, sigma_min=0.3, learning_rate=2e-3)


@pytest.fixture(params=["noise", "prototypes"])
def made(request, make_denoiser):
    """A student of three classes whose images take nine passes."""
    denoiser = make_denoiser().eval()
    denoiser.provenance = Provenance.RELEASED
    config = ReleaseConfig(
        image_shape=(1, 8, 8),
        class_names=("a", "b", "c"),
        sampler=SamplerConfig(start=request.param, steps=5, sigma_max=1.5),
    )
    if request.param == "noise":
        return Releasable(denoiser, config)
    images = torch.linspace(-1, 1, 3 * 64).reshape(3, 1, 8, 8)
    prototypes = Prototypes(images, torch.arange(3), torch.ones(3), 0.0, Provenance.RELEASED)
    varied = replace(config, kind="prototypes", num_prototypes=3, augmentation=AugmentationConfig(shift=0.1))
    return Releasable(StartedDenoiser(denoiser, prototypes), varied)


def images_of(made):
    return made.student().sample(torch.arange(60) % 3, image_seeds(5, 60))


@pytest.mark.parametrize("evaluations", [1, 2])
def test_few_steps_land_where_many_did(context, made, evaluations):
    """On seeds that it did not learn from, well below the squared error of as few steps without learning."""
    config = replace(SHORT, evaluations=evaluations)
    before = {name: weight.clone() for name, weight in made.model.state_dict().items()}
    short = shortened(config, context, made)
    wanted = images_of(made)
    hasty = Releasable(made.model, short.config)
    errors = [(images_of(one) - wanted).square().mean() for one in (short, hasty)]
    assert errors[0] < 0.7 * errors[1]
    assert all(torch.equal(weight, before[name]) for name, weight in made.model.state_dict().items())
    assert short.model.provenance is Provenance.RELEASED


def test_an_image_takes_as_many_passes_as_were_asked_for(context, made):
    short = shortened(replace(SHORT, steps=1, images=20), context, made)
    passes = []
    denoiser = getattr(short.model, "denoiser", short.model)
    denoiser.register_forward_hook(lambda *_: passes.append(1))
    short.student().sample(torch.tensor([0]), [1])
    assert len(passes) == 2
    assert replace(short.config, sampler=made.config.sampler) == made.config


def test_stopped_and_gone_on_with_it_ends_the_same(context, made, monkeypatch, tmp_path):
    other = open_run(tmp_path / "other", Config())
    whole = shortened(SHORT, replace(context, run=other), made)
    seen_by, calls = shorten.seen_by, []

    def stops(*args):
        calls.append(1)
        if len(calls) == 60:
            os.kill(os.getpid(), signal.SIGINT)
        return seen_by(*args)

    monkeypatch.setattr(shorten, "seen_by", stops)
    with pytest.raises(KeyboardInterrupt):
        shortened(SHORT, context, made)
    monkeypatch.setattr(shorten, "seen_by", seen_by)
    again = shortened(SHORT, context, made)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sampler": SamplerConfig(churn=1.0)}, r"sampler\.churn=1\.0 .*use sampler\.churn=0"),
        ({"student": StudentConfig(use_labels=False)}, r"shorten\.steps=5 needs student\.use_labels=true"),
        ({"sampler": SamplerConfig(sigma_max=0.4)}, r"shorten\.sigma_min=0\.4 must be below sampler\.sigma_max=0\.4"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        DpSadSettings(shorten=ShortenConfig(steps=5), **changes)
    DpSadSettings(shorten=ShortenConfig(steps=0), **changes)

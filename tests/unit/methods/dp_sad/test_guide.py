"""The guide: its rows, what they cost, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods.dp_sad.distillation import StudentConfig
from dpsad.methods.dp_sad.guide import (
    GuideConfig,
    classifier_rows,
    guide_plan,
    proposals_by,
    proposals_of,
    step_size,
    train_guide,
)
from dpsad.methods.dp_sad.release_plans import plans
from dpsad.methods.dp_sad.settings import DpSadSettings, RefineConfig
from dpsad.privacy.accounting import merge_gaussians
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.provenance import UNNOTED, Provenance
from students.guide import SHARPNESS


def test_rows_are_gradients_of_each_record_s_own_loss(rng):
    classifier = nn.Linear(7, 4, bias=False)
    vectors, labels = F.normalize(torch.randn(5, 7, generator=rng)), torch.tensor([0, 3, 1, 1, 2])
    (rows,) = classifier_rows(classifier)(vectors, labels).parts
    for row, vector, label in zip(rows, vectors, labels, strict=True):
        loss = F.cross_entropy(SHARPNESS * classifier(vector[None]), label[None]) / SHARPNESS
        (gradient,) = torch.autograd.grad(loss, classifier.weight)
        torch.testing.assert_close(row, gradient.flatten())
    assert rows.norm(dim=1).max() <= 2**0.5 + 1e-6


@pytest.mark.parametrize("mu", [0.1, 2.5])
def test_a_plan_costs_exactly_mu(mu):
    (event,) = merge_gaussians([guide_plan(GuideConfig(steps=7), mu).event(1)])
    assert event.noise_multiplier == pytest.approx(1 / mu, rel=1e-9)


@pytest.mark.parametrize(("mu", "expected"), [(0.1, 6.0), (1.5, 90.0), (25.0, 100.0), (math.inf, 100.0)])
def test_noisier_gradients_take_smaller_steps(mu, expected):
    assert step_size(GuideConfig(), guide_plan(GuideConfig(), mu)) == pytest.approx(expected / 0.3)


@pytest.mark.parametrize("steps", [0, 4])
def test_a_run_with_a_guide_costs_what_it_would_without(steps):
    costs = []
    for share in (0.0, 0.2):
        settings = DpSadSettings(guide=GuideConfig(share=share), refine=RefineConfig(steps=steps, batch_size=100))
        ledger = Ledger(2.0, 1e-5)
        planned = plans(settings, ledger, 1000)
        assert any(plan.purpose == "guide, gradient rows" for plan in planned) == (share > 0)
        costs.append(ledger.planned(planned).spent())
    assert costs[0] == pytest.approx(costs[1], rel=2e-3)
    assert max(costs) <= 2.0


@pytest.mark.parametrize("features", [("scattering",), ("random",), ("scattering", "samples"), ("resnet18",)])
def test_it_tells_classes_apart_and_charges_its_plan(context, tmp_path, features):
    """On digits with next to no noise: a classifier that learned nothing is right once in ten."""
    records, test = (load_images(DataConfig(), part) for part in ("train", "test"))
    plan, samples = guide_plan(GuideConfig(), 1.0), replace(test, provenance=Provenance.PUBLIC)
    weights = None
    if features == ("resnet18",):  # as its weights begin
        weights = str(tmp_path / "resnet18.pth")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(torchvision.models.resnet18(weights=None).state_dict(), weights)
    guide = trained(context, records, samples, plan, features=features, weights=weights)
    assert (UNNOTED in guide.public_images) == (weights is not None)
    assert context.ledger.entries == [plan]
    assert guide.provenance is Provenance.RELEASED
    assert len(guide.num_directions) == len(features)
    assert "scattering" not in features or guide.num_directions[0] == 100
    norms = guide.vectors(test.images).norm(dim=1)
    assert torch.allclose(norms, torch.ones(len(norms)))
    right = (guide(test.images).argmax(1) == test.labels).double().mean()
    assert right > (0.7 if weights is None else 0.6)  # of weights that saw no image, 0.79


def test_what_images_of_a_class_were_made_as():
    taken_for, made_as = torch.tensor([0, 0, 0, 0, 2, 1, 1]), torch.tensor([0, 0, 0, 2, 0, 1, 1])
    expected = [[0.75, 0, 0.25, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert proposals_of(taken_for, made_as, 4).tolist() == expected


def test_images_of_other_classes_are_proposed_where_the_guide_takes_them(context):
    """Samples whose labels 3 and 5 are exchanged: the guide, which knows records, proposes each for the other."""
    records, test = (load_images(DataConfig(), part) for part in ("train", "test"))
    exchanged = torch.arange(10)
    exchanged[[3, 5]] = exchanged[[5, 3]]
    samples = replace(test, provenance=Provenance.PUBLIC, labels=exchanged[test.labels])
    plan = guide_plan(GuideConfig(), 0.5)
    guide = trained(context, records, samples, plan, features=("scattering",))
    assert torch.equal(guide.proposals, torch.eye(10))
    proposals = proposals_by(guide, samples)
    assert torch.equal(proposals.argmax(1), exchanged)
    assert torch.allclose(proposals.sum(1), torch.ones(10))


@pytest.mark.parametrize(
    ("provenance", "why"),
    [(Provenance.PRIVATE, "has provenance 'private'"), (Provenance.PUBLIC, "are records themselves")],
)
def test_samples_that_are_records_are_refused_whatever_they_are_called(context, provenance, why):
    records = load_images(DataConfig(), "train")
    samples = replace(records.take(torch.arange(120)), provenance=provenance)
    with pytest.raises(ValueError, match=why):
        trained(context, records, samples, guide_plan(GuideConfig(), 1.0))
    assert context.ledger.entries == []


def trained(context, records, samples, plan, **settings):
    config = GuideConfig(directions=100, **settings)
    return train_guide(config, context, samples=samples, records=records, plan=plan, learned_from="nothing")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"guarantee": "shards", "guide": GuideConfig(share=0.2)}, r"guide\.share=0\.2 needs guarantee=records"),
        (
            {"student": StudentConfig(use_labels=False), "guide": GuideConfig(share=0.2)},
            r"guide\.share=0\.2 needs student\.use_labels=true",
        ),
        ({"guide": GuideConfig(share=0.7)}, r"guide\.share=0\.7 and privacy\.split=0\.4 leave nothing"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        DpSadSettings(**changes)
    with pytest.raises(ValueError, match=r"guide\.share=1 leaves nothing"):
        GuideConfig(share=1.0)
    with pytest.raises(
        ValueError, match=r"guide\.features='pixels' must be one of scattering, random, samples, resnet18"
    ):
        GuideConfig(features=("pixels",))
    with pytest.raises(ValueError, match=r"guide\.features=\[\] must name at least one kind"):
        GuideConfig(features=())
    for features, weights in ((("scattering",), "resnet18.pth"), (("resnet18",), None)):
        with pytest.raises(ValueError, match=r"guide\.weights=.* do not fit: one file holds"):
            GuideConfig(features=features, weights=weights)

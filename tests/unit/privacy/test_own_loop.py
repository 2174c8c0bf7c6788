"""Bring your own model: private training of any `torch.nn.Module`, the whole loop in sight."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.per_example_gradients import set_gradients, trainable_parameters
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.rows_of_any_model import gradient_rows
from dpsad.privacy.sanitizer import Sanitizer

NUM, WORDS = 400, 12


class Classifier(nn.Module):
    """Two classes of short texts; nothing in it is of this project."""

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(WORDS, 8), nn.Conv1d(8, 8, 3, padding=1)
        self.norm, self.scores = nn.GroupNorm(2, 8), nn.Linear(8, 2)

    def forward(self, texts):
        h = self.words(texts).transpose(1, 2)
        return self.scores(self.norm(self.mix(h)).relu().mean(dim=2))


@pytest.fixture
def texts(rng):
    """Texts of 6 words; the class is that of most words, low or high."""
    texts = torch.randint(WORDS, (NUM, 6), generator=rng)
    return texts, ((texts >= WORDS // 2).double().mean(dim=1) > 0.5).long()


def train(model, texts, classes, sanitizer, randomness, *, learning_rate=0.05):
    """DP-SGD in ten lines."""
    plan = sanitizer.plan
    size = sum(parameter.numel() for parameter in trainable_parameters(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def loss(scores, targets):
        return F.cross_entropy(scores, targets, reduction="none")

    for _ in range(plan.num_releases):
        joined = poisson_sample(len(texts), plan.sampling_prob, randomness)
        rows = gradient_rows(model, loss, texts[joined], classes[joined])
        set_gradients(model, sanitizer.release([rows], (size,)) / (plan.sampling_prob * len(texts)))
        optimizer.step()


def test_any_model_learns_and_the_ledger_says_what_it_cost(texts):
    """Loss from 0.69 to below 0.3 with little noise; a sanitizer makes no release beyond its plan."""
    torch.manual_seed(0)
    model, ledger = Classifier(), Ledger(epsilon=200.0, delta=1e-4)
    plan = ReleasePlan(
        purpose="texts", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=0.5, sampling_prob=0.25, num_releases=30
    )
    randomness = PrivateRandomness(seed=0)  # for this test alone: leave the seed out
    sanitizer = Sanitizer(plan, ledger, randomness)
    before = F.cross_entropy(model(texts[0]), texts[1]).item()
    train(model, *texts, sanitizer, randomness)
    after = F.cross_entropy(model(texts[0]), texts[1]).item()
    assert before > 0.6
    assert after < 0.3
    assert ledger.spent() == epsilon_of([plan.event(1)], 1e-4)
    assert ledger.entries == [plan]
    with pytest.raises(ValueError, match="all 30 planned releases are made"):
        train(model, *texts, sanitizer, randomness)


def test_a_loop_over_its_budget_does_not_touch_the_model(texts):
    torch.manual_seed(0)
    model = Classifier()
    before = [parameter.clone() for parameter in model.parameters()]
    plan = ReleasePlan(
        purpose="texts", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=0.5, sampling_prob=0.25, num_releases=30
    )
    randomness = PrivateRandomness(seed=0)
    with pytest.raises(BudgetExceeded):
        train(model, *texts, Sanitizer(plan, Ledger(epsilon=1.0, delta=1e-4), randomness), randomness)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))

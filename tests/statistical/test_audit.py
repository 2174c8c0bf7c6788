"""Audits of the real code: they come near what the ledger says, stay below it, and raise the alarm without noise.

Each bound holds with confidence 1 - 1e-6, so that all audits here cry wolf with probability below 1e-4.
"""

import pytest
import torch

from dpsad.attacks.generators import dp_merf_game, gs_wgan_game
from dpsad.attacks.gradient_rows import canary_scores, dp_sgd_game, dp_sgd_plan
from dpsad.attacks.nominal import nominal_game
from dpsad.attacks.prototypes import prototypes_game, shards_game
from dpsad.attacks.release_plans import plans_game
from dpsad.audit.game import audit
from dpsad.audit.likelihood import log_likelihood_ratio, watched_releases
from dpsad.audit.one_run import best_guess
from dpsad.methods.dp_sad.distillation import StudentConfig
from dpsad.methods.dp_sad.nominal_noise import NominalConfig, nominal_plan
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer

DELTA, CONFIDENCE = 1e-5, 1 - 1e-6


def one_release(epsilon, unit=Unit.RECORD):
    plan = ReleasePlan(purpose="test", unit=unit, clip_norm=0.7)
    return calibrated([plan], epsilon=epsilon, delta=DELTA, records_per_person=1)


def judged(game, repetitions):
    return audit(game, repetitions=repetitions, delta=DELTA, confidence=CONFIDENCE)


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize(("epsilon", "repetitions", "share"), [(1.0, 400_000, 0.8), (4.0, 100_000, 0.8)])
def test_one_gaussian_release_is_audited_to_most_of_its_epsilon(unit, epsilon, repetitions, share):
    found = judged(plans_game(one_release(epsilon, unit)), repetitions)
    assert not found.refuted
    assert share * epsilon <= found.audited_epsilon <= found.claimed_epsilon


def test_the_loop_of_dp_sgd_is_audited_to_half_of_its_epsilon():
    found = judged(dp_sgd_game(dp_sgd_plan(4.0, DELTA, sampling_prob=0.5, steps=4)), 20_000)
    assert not found.refuted
    assert 2.0 <= found.audited_epsilon <= found.claimed_epsilon


GAMES = {
    "release plans": lambda: plans_game([*one_release(4.0), *one_release(4.0, Unit.SHARD)]),
    "sampled shards": lambda: plans_game(
        [
            ReleasePlan(
                purpose="test",
                unit=Unit.SHARD,
                clip_norm=2.0,
                noise_multiplier=3.0,
                sampling_prob=0.5,
                num_releases=4,
            )
        ]
    ),
    "dp-sgd": lambda: dp_sgd_game(dp_sgd_plan(4.0, DELTA, sampling_prob=0.7, steps=3)),
    "prototypes": lambda: prototypes_game(4.0, DELTA),
    "shards": lambda: shards_game(4.0, DELTA),
    "shards, sampled": lambda: shards_game(4.0, DELTA, sampling_prob=0.5),
    "dp-merf": lambda: dp_merf_game(4.0, DELTA),
    "gs-wgan": lambda: gs_wgan_game(4.0, DELTA),
}


@pytest.mark.parametrize("name", GAMES)
def test_sound_code_is_not_accused_and_code_without_noise_is(name, monkeypatch):
    game = GAMES[name]()
    assert not judged(game, 200).refuted
    monkeypatch.setattr(
        PrivateRandomness, "rounded_normal", lambda self, shape, scale: torch.zeros(shape, dtype=torch.float64)
    )
    found = judged(game, 200)
    assert found.refuted
    assert found.audited_epsilon > found.claimed_epsilon


@pytest.mark.parametrize("name", ["release plans", "dp-sgd", "prototypes", "gs-wgan"])
def test_a_third_of_the_noise_is_found_out(name, monkeypatch):
    normal = PrivateRandomness.rounded_normal
    monkeypatch.setattr(PrivateRandomness, "rounded_normal", lambda self, shape, scale: normal(self, shape, scale / 3))
    assert judged(GAMES[name](), 600).refuted


@pytest.mark.parametrize("name", ["release plans", "dp-sgd", "gs-wgan"])
def test_rows_that_are_not_clipped_are_found_out(name, monkeypatch):
    release = Sanitizer.release

    def unclipped(self, chunks, shape):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dpsad.privacy.clipping.clip_scale", lambda norm, clip_norm: torch.ones_like(norm))
            return release(self, chunks, shape)

    monkeypatch.setattr(Sanitizer, "release", unclipped)
    assert judged(GAMES[name](), 200).refuted


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_the_published_loop_refutes_its_nominal_epsilon(epsilon):
    """By nothing but the weights of the student that comes out."""
    config, student = NominalConfig(clip_norm=1.0), StudentConfig(
        start="random", steps=30, batch_size=64, learning_rate=2e-3, data_weight=1.0
    )  # fmt: skip
    (plan,) = calibrated([nominal_plan(1.0, 0.25, student.steps)], epsilon=epsilon, delta=DELTA, records_per_person=1)
    found = judged(nominal_game(plan, config, student), 200)
    assert found.nominal
    assert found.refuted
    assert found.audited_epsilon > found.claimed_epsilon


def test_the_published_loop_with_its_accounted_noise_is_not_refuted(monkeypatch):
    """So the alarm is about the noise: sigma*C beside every row hides the record, where sigma*C/T does not."""
    config, student = NominalConfig(clip_norm=1.0, num_levels=1), StudentConfig(
        start="random", steps=30, batch_size=64, learning_rate=2e-3, data_weight=1.0
    )  # fmt: skip
    (plan,) = calibrated([nominal_plan(1.0, 0.25, student.steps)], epsilon=1.0, delta=DELTA, records_per_person=1)
    assert not judged(nominal_game(plan, config, student), 200).refuted


def test_one_run_of_dp_sgd_with_many_canaries_bounds_epsilon():
    """At 95 %, the bound is near 1.5 and would have to be above 4 to accuse; below 0.3 is as far on the other side."""
    plan = dp_sgd_plan(4.0, DELTA, sampling_prob=1.0, steps=2)
    included = torch.rand(1_500, generator=torch.Generator().manual_seed(0)) < 0.5
    _, epsilon = best_guess(canary_scores(plan, included), included.numpy(), delta=DELTA, confidence=0.95)
    assert 0.3 < epsilon < 4.0


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("sampling_prob", [0.3, 1.0])
def test_the_ratio_is_that_of_the_densities(unit, sampling_prob):
    plan = ReleasePlan(
        purpose="t", unit=unit, clip_norm=3.0, noise_multiplier=1.5, sampling_prob=sampling_prob
    )  # fmt: skip
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)

    def density(mean):
        def normal(centre):
            return torch.distributions.Normal(centre, 1.5).log_prob(x).exp()

        return sampling_prob * normal(mean) + (1 - sampling_prob) * normal(0.0)

    without = density(-1.0) if unit is Unit.SHARD else torch.distributions.Normal(0.0, 1.5).log_prob(x).exp()
    expected = (density(1.0) / without).log()
    assert log_likelihood_ratio(plan, x).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_the_watch_sees_every_release_and_ends():
    before = Sanitizer.release
    (plan,) = one_release(4.0)
    with watched_releases() as seen:
        plans_game([plan]).play(True, 10)
    assert [one.plan for one in seen] == [plan]
    assert seen[0].released.shape == (10, 4)
    assert Sanitizer.release is before

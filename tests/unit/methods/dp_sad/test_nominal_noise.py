import pytest
import torch

from dpsad.methods.dp_sad.nominal_noise import (
    NominalConfig,
    actual_multiplier,
    nominal_noise,
    nominal_plan,
    reasons,
)
from dpsad.privacy.clipping import clip_rows
from dpsad.privacy.randomness import PrivateRandomness

CONFIG = NominalConfig(num_levels=50, clip_norm=0.2)


def test_noise_per_image_has_the_published_scale(has_scale):
    """sigma C / T, before the loop divides by B; rejects 2/3 and 3/2 of it; false alarm below 1e-6."""
    noise = nominal_noise(CONFIG, 5.0, PrivateRandomness(seed=0))(torch.zeros(100, 1, 20, 20))
    scale = 5.0 * 0.2 / 50
    assert has_scale(noise, scale)
    assert not has_scale(noise, 2 / 3 * scale)
    assert not has_scale(noise, 3 / 2 * scale)


def test_with_all_timesteps_the_noise_of_the_mean_over_all_rows_is_the_same(has_scale):
    """sigma C / (B T) on each row's share of the mean over B T rows, as over B rows; false alarm below 1e-6."""
    config = NominalConfig(num_levels=50, clip_norm=0.2, timesteps="all")
    noise = nominal_noise(config, 5.0, PrivateRandomness(seed=0))(torch.zeros(4 * 50, 1, 20, 20))
    scale = 5.0 * 0.2 / (4 * 50)
    assert has_scale(noise / (4 * 50), scale)
    assert not has_scale(noise / (4 * 50), 2 / 3 * scale)
    assert not has_scale(noise / (4 * 50), 3 / 2 * scale)


@pytest.mark.parametrize(("timesteps", "rows"), [("one", 1), ("all", 50)])
def test_the_actual_multiplier_is_noise_beside_an_image_s_joint_rows(timesteps, rows):
    """Measured: the image's rows at their bound, joined into one vector, against the noise on them, to 5 %."""
    config = NominalConfig(num_levels=50, clip_norm=0.2, timesteps=timesteps)
    quiet, loud = (nominal_noise(config, sigma, PrivateRandomness(seed=0)) for sigma in (0.0, 5.0))
    image = quiet(torch.full((rows, 30_000), 1e6))
    noise = loud(torch.zeros(rows, 30_000)).std()
    assert actual_multiplier(config, 5.0) == pytest.approx((noise / image.norm()).item(), rel=0.05)


def test_reasons_fit_the_noise():
    one, every = (
        reasons(NominalConfig(timesteps=timesteps), copies_teacher=False, clustered=False)
        for timesteps in ("one", "all")
    )
    assert "sigma/T," in one[0]
    assert "sigma/sqrt(T)," in every[0]
    assert one[1:] == every[1:]


@pytest.mark.parametrize("copies_teacher", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_reasons_name_what_applies(copies_teacher, clustered):
    said = " ".join(reasons(CONFIG, copies_teacher=copies_teacher, clustered=clustered))
    assert "no Poisson sample" in said
    assert ("student.start=teacher" in said) == copies_teacher
    assert ("data.pseudo_labels" in said) == clustered


def test_every_image_is_clipped_by_itself_before_the_noise(rng):
    gradient = torch.randn(6, 3, 4, 4, generator=rng) * torch.logspace(-3, 2, 6)[:, None, None, None]
    before = gradient.clone()
    clipped = nominal_noise(CONFIG, 0.0, PrivateRandomness(seed=0))(gradient)
    norms = before.flatten(1).norm(dim=1)
    torch.testing.assert_close(clipped.flatten(1).norm(dim=1), norms.clamp(max=0.2))
    assert torch.equal(clipped, clip_rows(before, 0.2))
    assert torch.equal(gradient, before)


def test_every_call_draws_new_noise():
    sanitize = nominal_noise(CONFIG, 5.0, PrivateRandomness(seed=0))
    first, second = (sanitize(torch.zeros(10, 100)) for _ in range(2))
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 5 / 1000**0.5


def test_the_nominal_plan_is_the_accounted_one():
    plan = nominal_plan(0.2, 0.1, 30)
    assert (plan.clip_norm, plan.sampling_prob, plan.num_releases) == (0.2, 0.1, 30)


@pytest.mark.parametrize("key", ["num_levels", "clip_norm"])
def test_settings_that_are_not_positive_are_refused(key):
    with pytest.raises(ValueError, match=rf"nominal\.{key}=0 must be in"):
        NominalConfig(**{key: 0})


def test_an_unknown_choice_of_timesteps_is_named():
    with pytest.raises(ValueError, match=r"nominal\.timesteps='al' .*did you mean 'all'"):
        NominalConfig(timesteps="al")

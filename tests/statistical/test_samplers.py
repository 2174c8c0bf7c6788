"""Samplers with the exact denoiser of a known Gaussian mixture, in place of a trained network."""

import math

import pytest
import torch

from dpsad.diffusion.noise_levels import sampling_levels
from dpsad.diffusion.samplers import Churn, guided, sample_ddim, sample_heun

WEIGHTS = torch.tensor([0.3, 0.7])
MEANS = torch.tensor([[-0.8, 0.5], [0.6, -0.4]])
SPREAD = 0.15
NUM = 20_000


def denoise(x, sigma, labels):
    """Posterior mean of a mixture of two Gaussians over images of 2 pixels; label 0 knows the first only."""
    flat, variance = x.flatten(1), SPREAD**2 + sigma[:, None] ** 2
    log_weights = WEIGHTS.log() - (flat[:, None] - MEANS).square().sum(2) / (2 * variance)
    log_weights[:, 1] = torch.where(labels == 0, -math.inf, log_weights[:, 1])
    posterior = (SPREAD**2 * flat[:, None] + sigma[:, None, None] ** 2 * MEANS) / variance[:, :, None]
    return (log_weights.softmax(1)[:, :, None] * posterior).sum(1).reshape(x.shape)


def start(sigmas, rng):
    return sigmas[0] * torch.randn(NUM, 1, 1, 2, generator=rng), torch.ones(NUM).long()


def assert_is_the_mixture(images):
    """Weights, means and variances to 5 standard errors (false alarm 6e-7 each) and 1 % for the steps' own error."""
    flat = images.flatten(1)
    first = flat[:, 0] < flat[:, 1]
    assert first.double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / NUM) ** 0.5 + 0.01)
    for members, mean in zip((flat[first], flat[~first]), MEANS, strict=True):
        standard_error = SPREAD / len(members) ** 0.5
        torch.testing.assert_close(members.mean(0), mean, rtol=0, atol=5 * standard_error + 0.01)
        relative = members.var(0).div(SPREAD**2) - 1
        assert relative.abs().max() < 5 * (2 / len(members)) ** 0.5 + 0.03


SAMPLERS = {
    "heun": (40, lambda x, sigmas, labels, fresh: sample_heun(denoise, x, sigmas, labels)),
    "heun with churn": (
        60,
        lambda x, sigmas, labels, fresh: sample_heun(
            denoise, x, sigmas, labels, churn=Churn(amount=15.0, sigma_min=0.01), fresh_noise=fresh
        ),
    ),
    "ddim": (250, lambda x, sigmas, labels, fresh: sample_ddim(denoise, x, sigmas, labels)),
    "ancestral": (
        250,
        lambda x, sigmas, labels, fresh: sample_ddim(denoise, x, sigmas, labels, churn=1.0, fresh_noise=fresh),
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_recover_a_known_mixture(name, rng):
    steps, sample = SAMPLERS[name]
    sigmas = sampling_levels(steps, sigma_min=0.005, sigma_max=20.0)
    x, labels = start(sigmas, rng)
    assert_is_the_mixture(sample(x, sigmas, labels, lambda: torch.randn(x.shape, generator=rng)))


def test_labels_reach_the_denoiser(rng):
    sigmas = sampling_levels(10, sigma_min=0.01, sigma_max=20.0)
    x, labels = start(sigmas, rng)
    for sample in (sample_heun, sample_ddim):
        flat = sample(denoise, x, sigmas, torch.zeros_like(labels)).flatten(1)
        torch.testing.assert_close(flat.mean(0), MEANS[0], rtol=0, atol=0.01)


def test_heun_is_closer_to_the_exact_flow_than_ddim_at_equal_steps(rng):
    """For one Gaussian the flow is known: an image keeps its distance from the mean in standard deviations."""
    sigmas = sampling_levels(36, sigma_min=0.01, sigma_max=20.0)
    x, labels = start(sigmas, rng)
    mean = MEANS[0].reshape(1, 1, 1, 2)
    exact = mean + (x - mean) * SPREAD / (SPREAD**2 + sigmas[0] ** 2).sqrt()
    heun, ddim = (
        (sample(denoise, x, sigmas, labels * 0) - exact).square().mean().sqrt().item()
        for sample in (sample_heun, sample_ddim)
    )
    assert heun < 0.003
    assert heun < ddim / 4


def test_without_churn_images_are_a_function_of_their_start(rng):
    sigmas = sampling_levels(5, sigma_min=0.01, sigma_max=20.0)
    x, labels = start(sigmas, rng)

    def never():
        pytest.fail("noise was drawn")

    for sample in (sample_heun, sample_ddim):
        drawn = sample(denoise, x, sigmas, labels, fresh_noise=never)
        assert torch.equal(drawn, sample(denoise, x, sigmas, labels))


def test_evaluations_are_counted_as_promised(rng):
    calls = []

    def counted(x, sigma, labels):
        calls.append(sigma[0].item())
        return denoise(x, sigma, labels)

    sigmas = sampling_levels(6, sigma_min=0.01, sigma_max=20.0)
    x, labels = start(sigmas, rng)
    sample_heun(counted, x, sigmas, labels)
    assert len(calls) == 2 * 6 - 1
    calls.clear()
    sample_ddim(counted, x, sigmas, labels)
    assert calls == sigmas[:-1].tolist()


def test_guidance_of_scale_zero_is_the_denoiser_itself():
    assert guided(denoise, scale=0.0, no_label=1) is denoise


def test_guidance_goes_on_past_the_label_s_prediction(rng):
    x, sigma, labels = torch.randn(6, 1, 1, 2, generator=rng), torch.ones(6), torch.zeros(6).long()
    with_label, without = denoise(x, sigma, labels), denoise(x, sigma, torch.ones(6).long())
    assert (with_label - without).abs().max() > 0.1
    pushed = guided(denoise, scale=1.5, no_label=1)(x, sigma, labels)
    torch.testing.assert_close(pushed, 2.5 * with_label - 1.5 * without)


def test_churn_without_noise_to_add_is_refused(rng):
    sigmas = sampling_levels(5, sigma_min=0.01, sigma_max=20.0)
    x, labels = start(sigmas, rng)
    with pytest.raises((TypeError, ValueError), match="fresh_noise"):
        sample_ddim(denoise, x, sigmas, labels, churn=1.0)
    with pytest.raises((TypeError, ValueError), match="fresh_noise"):
        sample_heun(denoise, x, sigmas, labels, churn=Churn(amount=5.0))

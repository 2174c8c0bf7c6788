import math

import pytest
import torch
from scipy.stats import norm
from torch import nn

from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.diffusion.parameterisations import PARAMETERISATIONS, lognormal_quantiles

LEVELS = [0.02, 0.5, 3.0, 80.0]


class Recorder(nn.Module):
    """Answers with a fixed image and keeps what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *asked):
        self.asked = asked
        return self.answer


def network_target(name, clean, noise, sigma):
    """What the network has to answer for the denoiser to be right, as each paper defines it; scalars."""
    if name == "vp":  # the noise (Ho et al. 2020)
        return noise
    if name == "ve":  # minus the noise: sigma times the score (Song et al. 2021)
        return -noise
    alpha, spread = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    return alpha * noise - spread * clean  # v (Salimans and Ho 2022, section 4)


@pytest.mark.parametrize("name", ["vp", "ve", "v"])
@pytest.mark.parametrize("sigma", LEVELS)
def test_a_network_that_answers_as_its_paper_says_gives_the_clean_image(rng, name, sigma):
    clean, noise = torch.randn(2, 3, 1, 4, 5, generator=rng).unbind(0)
    network = Recorder(network_target(name, clean, noise, sigma))
    denoised = Denoiser(network, parameterisation=name)(clean + sigma * noise, torch.full((3,), sigma), torch.zeros(3))
    torch.testing.assert_close(denoised, clean, rtol=1e-4, atol=1e-5 * max(1, sigma))
    scale = 1.0 if name == "ve" else 1 / math.hypot(1, sigma)
    torch.testing.assert_close(network.asked[0], (clean + sigma * noise) * scale)


@pytest.mark.parametrize("name", ["vp", "ve", "v"])
@pytest.mark.parametrize("sigma", LEVELS)
def test_the_weighted_error_is_the_network_s_own_squared_error(rng, name, sigma):
    clean, noise, error = torch.randn(3, 2, 1, 4, 5, generator=rng).unbind(0)
    network = Recorder(network_target(name, clean, noise, sigma) + error)
    denoiser = Denoiser(network, parameterisation=name)
    losses = denoising_loss(denoiser, clean, torch.full((2,), sigma), noise, torch.zeros(2))
    torch.testing.assert_close(losses, error.square().mean(dim=(1, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_noise_levels_rise_with_the_uniform_numbers_and_span_the_published_range(name):
    """Ends: Karras et al. 2022, Table 1 (VP, VE); log signal-to-noise ratios of 13 and -9 (v); 3.1 deviations (EDM)."""
    ends = {"edm": (math.exp(-4.908), math.exp(2.508)), "vp": (0.0010, 152.2), "ve": (0.02, 100.0), "v": (0.0015, 90.0)}
    uniform = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    levels = PARAMETERISATIONS[name].levels(uniform)
    assert levels.dtype == torch.float32
    assert (levels.diff() > 0).all()
    if name != "edm":
        uniform = torch.tensor([0.0, 1.0], dtype=torch.float64)
    first, last = PARAMETERISATIONS[name].levels(uniform[[0, -1]]).tolist()
    assert (first, last) == pytest.approx(ends[name], rel=0.01)


@pytest.mark.parametrize("name", ["vp", "v"])
def test_the_network_is_told_the_time_that_gave_the_level(name):
    """VP: t itself. v: the cosine schedule's t, where the signal is cos(pi t / 2)."""
    uniform = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    sigma = PARAMETERISATIONS[name].levels(uniform)
    *_, time = PARAMETERISATIONS[name].coefficients(sigma, 0.5)
    if name == "vp":
        torch.testing.assert_close(time.double(), 1e-5 + (1 - 1e-5) * uniform, rtol=1e-3, atol=1e-4)
    else:
        torch.testing.assert_close((time * math.pi / 2).cos(), 1 / (1 + sigma**2).sqrt())


def test_lognormal_quantiles_are_those_of_scipy():
    uniform = torch.tensor([1e-9, 0.2, 0.5, 0.99], dtype=torch.float64)
    expected = torch.from_numpy(norm(-0.4, 1.1).ppf(uniform.numpy())).exp().float()
    torch.testing.assert_close(lognormal_quantiles(uniform, -0.4, 1.1), expected)

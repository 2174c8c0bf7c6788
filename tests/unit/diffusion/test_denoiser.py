import math

import pytest
import torch
from torch import nn

from dpsad.diffusion.denoiser import Denoiser, denoising_loss, drop_labels


class Recorder(nn.Module):
    """Answers with a fixed image and keeps what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, noise_embedding, labels):
        self.asked = x, noise_embedding, labels
        return self.answer


@pytest.mark.parametrize("sigma", [1e-4, 0.02, 0.5, 3.0, 80.0, 1e4])
def test_preconditioning_is_that_of_the_paper_image_by_image(rng, sigma):
    """Karras et al. 2022, Table 1, in double precision and by hand."""
    x, answer = torch.randn(2, 3, 1, 4, 5, generator=rng).unbind(0)
    sigmas, labels = torch.tensor([sigma, 1.0, sigma]), torch.tensor([2, 0, 1])
    network = Recorder(answer)
    clean = Denoiser(network, sigma_data=0.4)(x, sigmas, labels)
    for index, s in enumerate([sigma, 1.0, sigma]):
        total = math.hypot(s, 0.4)
        expected = x[index].double() * (0.4 / total) ** 2 + answer[index].double() * s * 0.4 / total
        torch.testing.assert_close(clean[index].double(), expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(network.asked[0][index].double(), x[index].double() / total, rtol=1e-5, atol=1e-7)
        assert network.asked[1][index].item() == pytest.approx(math.log(s) / 4, rel=1e-5)
    assert network.asked[2] is labels


def test_almost_clean_images_pass_and_pure_noise_is_the_network_s_own_work(rng):
    x, answer = torch.randn(2, 4, 1, 3, 3, generator=rng).unbind(0)
    denoiser, labels = Denoiser(Recorder(answer), sigma_data=0.5), torch.zeros(4).long()
    torch.testing.assert_close(denoiser(x, torch.full((4,), 1e-6), labels), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(denoiser(x * 1e6, torch.full((4,), 1e6), labels), answer * 0.5, rtol=0, atol=1e-5)


def test_network_in_bfloat16_still_gives_float32(rng):
    x = torch.randn(2, 1, 3, 3, generator=rng)
    assert Denoiser(Recorder(x.bfloat16()))(x, torch.ones(2), torch.zeros(2).long()).dtype == torch.float32


def test_loss_is_the_formula_written_out(rng):
    """Equation 2 with lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, pixel by pixel."""
    x0, noise, answer = torch.randn(3, 2, 1, 3, 4, generator=rng).unbind(0)
    sigma, labels = torch.tensor([0.3, 7.0]), torch.tensor([0, 1])
    losses = denoising_loss(Denoiser(Recorder(answer), sigma_data=0.4), x0, sigma, noise, labels)
    assert losses.shape == (2,)
    for index, s in enumerate(sigma.tolist()):
        total = math.hypot(s, 0.4)
        errors = []
        for clean, drawn, raw in zip(*(part[index].flatten().tolist() for part in (x0, noise, answer)), strict=True):
            denoised = (clean + s * drawn) * (0.4 / total) ** 2 + raw * s * 0.4 / total
            errors.append((denoised - clean) ** 2)
        weight = (s**2 + 0.4**2) / (s * 0.4) ** 2
        assert losses[index].item() == pytest.approx(weight * sum(errors) / len(errors), rel=1e-4)


def test_a_silent_network_has_the_same_expected_loss_at_every_level(rng):
    """Table 1's purpose: 1 on data of the right spread; 5 standard errors, 0.7 %, false alarm 6e-7 each."""
    images, noise = 0.5 * torch.randn(2, 40, 1, 50, 50, generator=rng)
    noise = noise / 0.5
    denoiser = Denoiser(Recorder(torch.zeros_like(images)), sigma_data=0.5)
    for sigma in (0.01, 0.5, 20.0):
        losses = denoising_loss(denoiser, images, torch.full((40,), sigma), noise, torch.zeros(40).long())
        assert losses.mean().item() == pytest.approx(1, abs=5 * (2 / images.numel()) ** 0.5)


def test_labels_are_dropped_with_the_given_probability(rng):
    """Two-sided at 5 standard errors; false alarm 6e-7."""
    labels = torch.arange(20_000) % 10
    dropped = drop_labels(labels, 10, 0.2, rng)
    assert ((dropped == labels) | (dropped == 10)).all()
    assert (dropped == 10).double().mean().item() == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 20_000) ** 0.5)
    assert torch.equal(drop_labels(labels, 10, 0.0, rng), labels)
    assert (drop_labels(labels, 10, 1.0, rng) == 10).all()

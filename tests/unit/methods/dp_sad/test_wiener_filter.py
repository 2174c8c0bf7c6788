import pytest
import torch

from dpsad.methods.dp_sad.wiener_filter import cosine_basis, smooth_power, wiener_shrink


@pytest.mark.parametrize("size", [1, 2, 7, 8, 28])
def test_cosine_basis_is_orthonormal_and_its_frequencies_rise(size):
    basis = cosine_basis(size)
    torch.testing.assert_close(basis @ basis.T, torch.eye(size), rtol=0, atol=1e-5)
    crossings = (basis[:, 1:].sign() != basis[:, :-1].sign()).sum(1)
    assert (basis[0] > 0).all()
    assert crossings.tolist() == list(range(size))


def test_pure_noise_shrinks_to_almost_nothing(rng):
    """What is left of the noise's power is the square of a few percent."""
    noise = 0.4 * torch.randn(300, 2, 12, 9, generator=rng)
    left = wiener_shrink(noise, torch.full((300,), 0.16))
    assert left.square().mean() < 0.002 * noise.square().mean()


def test_white_signals_shrink_by_the_closed_form_image_by_image(rng):
    """Signal and noise white: the best linear estimate is signal / (signal + noise) of what was released."""
    variance = torch.tensor([0.05, 0.5, 5.0]).repeat(400)
    signal = 0.7 * torch.randn(1200, 1, 8, 8, generator=rng)
    released = signal + variance.sqrt()[:, None, None, None] * torch.randn(1200, 1, 8, 8, generator=rng)
    factor = (0.49 / (0.49 + variance))[:, None, None, None]
    shrunk = wiener_shrink(released, variance)
    for kind in range(3):
        error = (shrunk - factor * released)[kind::3].square().mean() / (factor * released)[kind::3].square().mean()
        assert error < 0.05**2 * 4


def test_a_strong_smooth_signal_survives_its_noise(rng):
    coarse = torch.randn(100, 1, 3, 3, generator=rng)
    signal = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bicubic")
    released = signal + 0.3 * torch.randn(100, 1, 16, 16, generator=rng)
    error = (wiener_shrink(released, torch.full((100,), 0.09)) - signal).square().mean()
    assert error < 0.35 * (released - signal).square().mean()
    assert error < 0.1 * signal.square().mean()
    almost_clean = wiener_shrink(released, torch.full((100,), 1e-8))
    torch.testing.assert_close(almost_clean, released, rtol=0, atol=1e-4)


def test_a_noisier_image_is_shrunk_more(rng):
    signal = torch.randn(50, 1, 6, 6, generator=rng)
    variance = torch.ones(50)
    variance[0] = 100.0
    kept = wiener_shrink(signal * 2, variance).flatten(1).norm(dim=1) / (signal * 2).flatten(1).norm(dim=1)
    assert kept[0] < 0.2 * kept[1:].mean()


def test_power_of_the_mean_is_not_averaged_with_its_neighbours():
    power = torch.zeros(1, 8, 8)
    power[0, 0, 0], power[0, 4, 4] = 100.0, 25.0
    smooth = smooth_power(power)
    assert smooth[0, 0, 0] == 100
    torch.testing.assert_close(smooth[0, 2:7, 2:7][1:, 1:], torch.ones(4, 4))
    assert smooth[0, 7, 7] == 0

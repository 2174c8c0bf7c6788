"""Scattering against its definition by Fourier transforms, and what its users rely on."""

import math

import pytest
import torch

from dpsad.networks.features.scattering import LEAST, PATHS, Scattering, gaussian, opponent_colours, wavelets


def convolved(plane, kernel, stride):
    """A float64 plane, its border drawn out, convolved by a product of Fourier transforms, every `stride`-th place."""
    reach = len(kernel) // 2
    rows, columns = (torch.arange(-reach, side + reach).clamp(0, side - 1) for side in plane.shape)
    padded = plane[rows][:, columns]
    shape = [side + len(kernel) - 1 for side in padded.shape]
    # torch's convolutions are correlations: turned kernels
    product = torch.fft.fft2(padded, s=shape) * torch.fft.fft2(kernel.flip(0, 1), s=shape)
    inside = torch.fft.ifft2(product)[2 * reach :, 2 * reach :][: plane.shape[0], : plane.shape[1]]
    return inside[::stride, ::stride]


def by_fourier(plane):
    """Scattering of one plane as Bruna and Mallat define it, written out path by path."""
    fine, coarse = ([torch.complex(*pair) for pair in zip(*wavelets(scale).chunk(2), strict=True)] for scale in (0, 1))
    blur, half_blur = gaussian(3.2, 17), gaussian(1.6, 9)

    def modulus(wave):
        return (wave.abs().square() + LEAST**2).sqrt()

    firsts = [modulus(convolved(plane, psi, 1)) for psi in fine]
    paths = [convolved(plane, blur, 4), *(convolved(first, blur, 4) for first in firsts)]
    paths += [convolved(modulus(convolved(plane, psi, 2)), half_blur, 2) for psi in coarse]
    paths += [convolved(modulus(convolved(u, psi, 2)), half_blur, 2) for u in firsts for psi in coarse]
    return torch.stack([path.real for path in paths])


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (13, 30)])
def test_paths_are_those_of_the_definition(shape):
    planes = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    expected = torch.stack([by_fourier(plane[0]) for plane in planes])
    assert expected.shape[1:] == (PATHS, math.ceil(shape[0] / 4), math.ceil(shape[1] / 4))
    found = Scattering((1, *shape)).scattered(planes.float())
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_wavelets_see_no_brightness_and_turn_with_the_image():
    for scale in (0, 1):
        real, imaginary = wavelets(scale).chunk(2)
        assert max(real.sum((1, 2)).abs().max(), imaginary.sum((1, 2)).abs().max()) < 1e-12
        assert torch.allclose(real[4], real[0].rot90(-1), atol=1e-12)  # a quarter of a turn later
        assert not torch.allclose(real[1], real[0], atol=1e-2)


@pytest.mark.parametrize(("image_shape", "dim"), [((1, 28, 28), 3969), ((3, 32, 32), 15552), ((1, 8, 8), 324)])
def test_features_are_vectors_of_norm_one(image_shape, dim):
    scattering = Scattering(image_shape)
    images = torch.rand(3, *image_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = scattering(images)
    assert features.shape == (3, dim) == (3, scattering.dim)
    assert torch.allclose(features.norm(dim=1), torch.ones(3))
    assert torch.allclose(scattering(images[1:2]), features[1:2], atol=1e-6)


def test_colours_are_told_from_brightness():
    colours = opponent_colours()
    assert torch.allclose(colours @ colours.T, torch.eye(3), atol=1e-6)
    grey = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)
    planes = torch.einsum("dc,nchw->ndhw", colours, grey)
    assert planes[:, 1:].abs().max() < 1e-6


def test_an_image_without_any_contrast_has_finite_features_and_gradients():
    images = torch.full((1, 1, 12, 12), -1.0, requires_grad=True)
    features = Scattering((1, 12, 12))(images)
    features.square().sum().add(features.sum()).backward()
    assert features.isfinite().all()
    assert images.grad.isfinite().all()

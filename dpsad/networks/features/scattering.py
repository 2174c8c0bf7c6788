"""Scattering: wavelet moduli of two orders, averaged in place; a fixed map that tells textures and outlines apart."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ORIENTATIONS = 8
# the mean, the modulus of each wavelet, and that of each coarse one on each fine modulus
PATHS = 1 + 2 * ORIENTATIONS + ORIENTATIONS**2
GROUPS = 27  # of three paths, each of which is normalised by itself
STRIDE = 4  # pixels between two places of the result
LEAST = 1e-6  # of a modulus, whose gradient at zero would not be finite


class Scattering(nn.Module):
    """Scattering of two scales and eight orientations, normalised: images to vectors of norm 1.

    Wavelets are short enough to be convolved in place, the coarse ones at half the resolution. Each group of three
    paths is brought to mean 0 and variance 1 within the image, so that contrast and brightness say little.

    Args:
        image_shape: channels, height, width. Three channels are read as red, green and blue, and turned into brightness
            and two differences of colours first.

    Attributes:
        dim: length of a feature vector: channels * 81 * ceil(height / 4) * ceil(width / 4).

    Source: Mallat 2012; Bruna and Mallat 2013; normalised as in Tramer and Boneh 2021.
    """

    colours: Tensor
    fine: Tensor
    coarse: Tensor
    blur: Tensor
    half_blur: Tensor

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        chan, height, width = image_shape
        self.dim = chan * PATHS * math.prod(math.ceil(side / STRIDE) for side in (height, width))
        self.register_buffer("colours", opponent_colours() if chan == 3 else torch.eye(chan), persistent=False)
        for name, filters in (
            ("fine", wavelets(scale=0)),
            ("coarse", wavelets(scale=1)),
            ("blur", gaussian(4 * 0.8, 17)[None]),
            ("half_blur", gaussian(2 * 0.8, 9)[None]),
        ):
            self.register_buffer(name, filters[:, None].float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, dim] of norm 1."""
        planes = torch.einsum("dc,nchw->ndhw", self.colours.to(images.dtype), images)
        paths = self.scattered(planes.flatten(0, 1)[:, None])
        return F.normalize(F.group_norm(paths, GROUPS).reshape(len(images), self.dim), dim=1)

    def scattered(self, planes: Tensor) -> Tensor:
        """[num, 1, height, width] -> [num, 81, ceil(height / 4), ceil(width / 4)], not normalised.

        The mean, fine moduli, coarse moduli, then coarse moduli of each fine one in turn.
        """
        num = len(planes)
        fine = _modulus(_convolve(planes, self.fine, 1))
        of_fine = _modulus(_convolve(fine.flatten(0, 1)[:, None], self.coarse, 2)).unflatten(0, (num, -1)).flatten(1, 2)
        coarse = _modulus(_convolve(planes, self.coarse, 2))
        at_full = torch.cat([planes, fine], dim=1)
        at_half = torch.cat([coarse, of_fine], dim=1)
        averaged = [
            _convolve(maps.flatten(0, 1)[:, None], blur, stride).unflatten(0, (num, -1)).squeeze(2)
            for maps, blur, stride in ((at_full, self.blur, STRIDE), (at_half, self.half_blur, STRIDE // 2))
        ]
        return torch.cat(averaged, dim=1)


def wavelets(scale: int) -> Tensor:
    """[2 * orientations, side, side] float64 Morlet wavelets of mean 0: real parts, then imaginary ones.

    Args:
        scale: 0 or 1; each doubles the width.
    """
    sigma, frequency, side = 0.8 * 2**scale, 0.75 * math.pi / 2**scale, (7, 13)[scale]
    reach = torch.arange(side, dtype=torch.float64) - side // 2
    down, right = torch.meshgrid(reach, reach, indexing="ij")
    parts = []
    for orientation in range(ORIENTATIONS):
        angle = math.pi * orientation / ORIENTATIONS
        along = right * math.cos(angle) + down * math.sin(angle)
        across = (down * math.cos(angle) - right * math.sin(angle)) / 2
        window = torch.exp(-(along**2 + across**2) / (2 * sigma**2))
        wave = torch.polar(torch.ones_like(along), frequency * along)
        mean = (window * wave).sum() / window.sum()
        parts.append(window * (wave - mean) / (4 * math.pi * sigma**2))
    together = torch.stack(parts)
    return torch.cat([together.real, together.imag])


def gaussian(sigma: float, side: int) -> Tensor:
    """[side, side] float64 blur of sum 1."""
    line = torch.exp(-((torch.arange(side, dtype=torch.float64) - side // 2) ** 2) / (2 * sigma**2))
    return torch.outer(line, line) / line.sum() ** 2


def opponent_colours() -> Tensor:
    """[3, 3] orthogonal: brightness, red against green, both against blue."""
    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    return rows / rows.norm(dim=1, keepdim=True)


def _convolve(maps: Tensor, filters: Tensor, stride: int) -> Tensor:
    """Maps [num, 1, height, width], their borders drawn out, by each filter."""
    reach = filters.shape[-1] // 2
    return F.conv2d(F.pad(maps, (reach,) * 4, mode="replicate"), filters.to(maps.dtype), stride=stride)


def _modulus(waves: Tensor) -> Tensor:
    real, imaginary = waves.chunk(2, dim=1)
    return (real.square() + imaginary.square() + LEAST**2).sqrt()

"""An autoencoder with small latents for a diffusion model; GroupNorm only, so that no example sees another."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsad.networks.config import MAX_LEVELS
from dpsad.networks.layers import ResidualBlock, folded, group_norm, halved, unfolded
from dpsad.privacy.provenance import Provenance, PublicImages
from dpsad.privacy.ranges import Count, require_ranges

LATENT_SCALE = 0.5  # standard deviation of latents: what denoisers here take clean images to have


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The shape of an `Autoencoder`.

    channels: width of the finest level.
    multipliers: width of each level as a multiple of `channels`; each further level halves the resolution.
    patch: side of the pixel blocks that are folded into channels before the first level. Latents of an image of side S
        have side S / (patch * 2^(levels - 1)), rounded up: 7 for 28, 8 for 32.
    latent_channels: numbers that stand for a position of the coarsest level.
    """

    channels: Count = 32
    multipliers: tuple[Count, ...] = (1, 2)
    patch: Count = 2
    latent_channels: Count = 4

    def __post_init__(self) -> None:
        require_ranges(self, "autoencoder")
        if len(self.multipliers) > MAX_LEVELS:
            raise ValueError(f"autoencoder.multipliers has {len(self.multipliers)} levels; use {MAX_LEVELS} at most")
        if not self.multipliers:
            raise ValueError("autoencoder.multipliers=[] must be a list of a number for each level; [1] is one level")


class Encoder(nn.Module):
    """[batch, chan, height, width] images -> mean and log variance of their latents, each like the latents."""

    def __init__(self, config: AutoencoderConfig, image_channels: int):
        super().__init__()
        self.patch = config.patch
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.conv_in = nn.Conv2d(image_channels * config.patch**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after) for before, after in zip([widths[0], *widths], widths, strict=False)
        )
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        h = self.conv_in(folded(images, self.patch))
        for depth, block in enumerate(self.blocks):
            h = block(h if depth == 0 else halved(h))
        mean, log_variance = self.conv_out(F.silu(self.norm_out(h))).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)


class Decoder(nn.Module):
    """Latents -> [batch, chan, height, width] images.

    Args:
        config: its shape.
        image_shape: (chan, height, width) of the images.

    Attributes:
        latent_shape: (chan, height, width) of the latents of such an image.
        centre, scale: [chan, 1, 1] of the encoder's own latents; those that a diffusion model sees are
            (own - centre) / scale.
        provenance, public_images: as for a `Denoiser`; of the encoder, too.
    """

    centre: Tensor
    scale: Tensor
    provenance = Provenance.PUBLIC
    public_images: tuple[PublicImages, ...] = ()

    def __init__(self, config: AutoencoderConfig, image_shape: tuple[int, int, int]):
        super().__init__()
        chan, self.height, self.width = image_shape
        self.patch = config.patch
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        sides = [(-(-self.height // self.patch), -(-self.width // self.patch))]
        for _ in widths[1:]:
            sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
        self.sides = sides[::-1]
        self.latent_shape = (config.latent_channels, *sides[-1])
        self.register_buffer("centre", torch.zeros(config.latent_channels, 1, 1))
        self.register_buffer("scale", torch.ones(config.latent_channels, 1, 1))
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        coarse_to_fine = widths[::-1]
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after)
            for before, after in zip([widths[-1], *coarse_to_fine], coarse_to_fine, strict=False)
        )
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], chan * config.patch**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.conv_in(latents * self.scale + self.centre)
        for side, block in zip(self.sides, self.blocks, strict=True):
            h = block(h if h.shape[-2:] == side else F.interpolate(h, size=side, mode="nearest"))
        h = self.conv_out(F.silu(self.norm_out(h)))
        return unfolded(h, self.patch, self.height, self.width).float()


class Autoencoder(nn.Module):
    """An encoder to normal latents, and the decoder back.

    Args: as `Decoder`.

    Source: Kingma and Welling 2014; Rombach et al. 2022, section 3.1 and Appendix G for the scale of latents.
    """

    def __init__(self, config: AutoencoderConfig, image_shape: tuple[int, int, int]):
        super().__init__()
        self.encoder = Encoder(config, image_shape[0])
        self.decoder = Decoder(config, image_shape)

    def encode(self, images: Tensor) -> Tensor:
        """The latents that a diffusion model sees: [batch, chan, height, width] images -> [batch, *latent_shape].

        Their mean, without noise; an image's latents are a function of that image and the weights alone.
        """
        mean, _ = self.encoder(images)
        return (mean - self.decoder.centre) / self.decoder.scale

    def decode(self, latents: Tensor) -> Tensor:
        """[batch, *latent_shape] -> [batch, chan, height, width], not clamped."""
        return self.decoder(latents)

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Scales latents so that those of `images`, [num, chan, height, width], have mean 0 and spread `LATENT_SCALE`.

        By channel. The scale is released with the decoder, so the images must be public.
        """
        mean, _ = self.encoder(images)
        self.decoder.centre.copy_(mean.mean(dim=(0, 2, 3)).reshape(-1, 1, 1))
        self.decoder.scale.copy_(mean.std(dim=(0, 2, 3)).clamp(min=1e-6).reshape(-1, 1, 1) / LATENT_SCALE)

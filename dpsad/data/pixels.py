"""Pixels: from arrays and bytes to [-1, 1], channels first, grey or in colour, resized."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LIMITS = {"bytes": (0, 255), "unit": (0, 1), "signed": (-1, 1)}


def images_of(array: np.ndarray, pixel_range: str, *, where: str) -> Tensor:
    """Brings an array of images into [-1, 1], each by itself.

    Args:
        array: of a layout that `layout_of` knows; uint8, uint16 or floats. Transparency is laid over white.
        pixel_range: bytes, unit or signed: values outside are cut, those that are not finite stay so. auto takes uint8
            for bytes and floats for signed, and refuses values outside. uint16 is taken over its full range.
        where: the array as its user named it; errors begin with it.

    Returns:
        [num, chan, height, width] float32, contiguous.

    Raises:
        ValueError: another layout, type or range.
    """
    if layout_of(array.shape, where=where).channels_first:
        array = array.transpose(0, 2, 3, 1)
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise ValueError(f"{where}: {array.dtype}; expected uint8, uint16, or floats")
    if array.dtype.kind == "u" and pixel_range not in ("auto", "bytes"):
        raise ValueError(f"{where}: {array.dtype} holds bytes, not the range '{pixel_range}'; leave the range out")
    if array.dtype == np.uint8:
        return _over_white(from_bytes(array))
    if array.dtype == np.uint16:
        return _over_white(channels_first(array).div_(32767.5).sub_(1))
    if pixel_range == "auto":
        _require_signed(array, where)
    low, high = LIMITS["signed" if pixel_range == "auto" else pixel_range]
    pixels = channels_first(array)
    pixels = torch.where(pixels.isfinite(), pixels.clamp(low, high), pixels)
    return _over_white(pixels.div_((high - low) / 2).sub_((high + low) / (high - low)))


class Layout(NamedTuple):
    """What the shape of an array says of its images."""

    chan: int
    height: int
    width: int
    channels_first: bool


def layout_of(shape: tuple[int, ...], *, where: str) -> Layout:
    """The layout of [num, height, width], [num, height, width, chan] or [num, chan, height, width].

    Channels are 1, 3 or 4 (RGBA); where either end could have them, one or three channels go before four, and the last
    axis before the second.

    Raises:
        ValueError: another shape.
    """
    if len(shape) == 3:
        return Layout(1, shape[1], shape[2], False)
    for channels in ((1, 3), (4,)):
        if len(shape) == 4 and shape[3] in channels:
            return Layout(shape[3], shape[1], shape[2], False)
        if len(shape) == 4 and shape[1] in channels:
            return Layout(shape[1], shape[2], shape[3], True)
    raise ValueError(
        f"{where}: shape {list(shape)}; expected [num, height, width], [num, height, width, chan] or "
        "[num, chan, height, width] with 1, 3 or 4 (RGBA) channels"
    )


def _over_white(images: Tensor) -> Tensor:
    """[num, 4, H, W] RGBA -> [num, 3, H, W] RGB over white; other images are returned unchanged."""
    if images.shape[1] != 4:
        return images
    colour, opacity = images[:, :3], (images[:, 3:] + 1) / 2
    return (colour * opacity + (1 - opacity)).clamp_(-1, 1)


def _require_signed(array: np.ndarray, where: str) -> None:
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low < -1 or high > 1:
        raise ValueError(
            f"{where}: floats in [{low:g}, {high:g}]; expected [-1, 1]: say what their range is, or pass uint8"
        )


def from_bytes(pixels: np.ndarray) -> Tensor:
    """[num, height, width] or [num, height, width, chan] uint8 -> [num, chan, height, width] float32 in [-1, 1]."""
    return channels_first(pixels).div_(127.5).sub_(1)


def channels_first(pixels: np.ndarray) -> Tensor:
    """[num, height, width] or [num, height, width, chan] -> a new [num, chan, height, width] float32, contiguous."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return torch.from_numpy(np.array(pixels.transpose(0, 3, 1, 2), dtype=np.float32, order="C"))


def to_grey(images: Tensor) -> Tensor:
    """Luminance of RGB images: [num, 3, H, W] -> [num, 1, H, W]; grey images are returned unchanged.

    Source: ITU-R BT.601.
    """
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).clamp_(-1, 1)


def to_colour(images: Tensor) -> Tensor:
    """Grey images as RGB of equal parts: [num, 1, H, W] -> [num, 3, H, W]; colour is returned unchanged."""
    return images.expand(-1, 3, -1, -1).contiguous()


def to_square(images: Tensor, side: int) -> Tensor:
    """Resizes with antialiasing, without keeping the aspect: [num, chan, H, W] -> [num, chan, side, side]."""
    return resized(images, (side, side))


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes likewise to any (height, width); images of that size are returned unchanged."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True).clamp_(-1, 1)

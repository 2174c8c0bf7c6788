import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dpsad.data.augmentation import AugmentationConfig, affine_maps, augment, smooth_fields, variation_size, vary
from dpsad.training.batches import batches_of_prototypes
from students.prototypes import Prototypes

EVERYTHING = AugmentationConfig(rotation=20, scale=0.2, shear=15, shift=0.1, elastic=1.5, flip=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise_images(num=8, chan=1, height=12, width=16):
    return torch.rand(num, chan, height, width, generator=seeded(99)) * 2 - 1


def warp(images, config, draws):
    theta = affine_maps(torch.tensor([draws]).expand(len(images), -1), config, images.shape[2] / images.shape[3])
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def slow_affine(image, config, draws):
    """One [height, width] image, pixel by pixel, through matrices in pixels."""
    height, width = image.shape
    turn, slant = math.radians(config.rotation * draws[0]), math.tan(math.radians(config.shear * draws[2]))
    low, high = 1 / (1 + config.scale), 1 + config.scale
    zoom = low + (high - low) * (draws[1] + 1) / 2
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    forward = rotate @ np.array([[1, slant], [0, 1]]) * zoom
    move = np.array([config.shift * draws[3] * width, config.shift * draws[4] * height])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = np.linalg.inv(forward) @ (np.array([column, row]) - centre - move) + centre
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            right, down = x - left, y - top
            upper = (1 - right) * image[top, left] + right * image[top, left + 1]
            lower = (1 - right) * image[top + 1, left] + right * image[top + 1, left + 1]
            result[row, column] = (1 - down) * upper + down * lower
    return result


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 14), (13, 7)])
def test_affine_part_agrees_with_a_loop_over_pixels(height, width):
    config = AugmentationConfig(rotation=40, scale=0.5, shear=25, shift=0.2)
    images = noise_images(6, 1, height, width)
    warped = augment(images, config, rng=seeded(5))
    normals = torch.randn(6, variation_size(images, config), generator=seeded(5))[:, :6]
    draws = (2 * torch.special.ndtr(normals) - 1).double().tolist()
    pairs = zip(images[:, 0].double().numpy(), draws, strict=True)
    expected = np.stack([slow_affine(image, config, draw) for image, draw in pairs])
    np.testing.assert_allclose(warped[:, 0].numpy(), expected, atol=2e-5)


def test_shift_moves_right_and_down_by_its_share_of_each_side():
    images = noise_images(2, 3, 8, 16)
    config = AugmentationConfig(shift=0.25)
    right = warp(images, config, [0.0, 0, 0, 1, 0])
    assert torch.allclose(right[..., 4:], images[..., :-4], atol=1e-5)
    assert torch.allclose(right[..., :4], images[..., :1].expand(-1, -1, -1, 4), atol=1e-5)
    down = warp(images, config, [0.0, 0, 0, 0, 1])
    assert torch.allclose(down[:, :, 2:], images[:, :, :-2], atol=1e-5)


def test_rotation_is_clockwise_and_zoom_enlarges():
    images = noise_images(2, 1, 9, 9)
    turned = warp(images, AugmentationConfig(rotation=90), [1.0, 0, 0, 0, 0])
    assert torch.allclose(turned, images.rot90(-1, dims=(2, 3)), atol=1e-5)
    square = torch.full((1, 1, 32, 32), -1.0)
    square[..., 12:20, 12:20] = 1
    for zoom, area in ((1.0, 256), (-1.0, 16)):
        zoomed = warp(square, AugmentationConfig(scale=1.0), [0.0, zoom, 0, 0, 0])
        assert (zoomed > 0).sum() == area


def test_everything_off_returns_the_images_themselves():
    images = noise_images()
    assert augment(images, AugmentationConfig()) is images
    assert augment(images[:0], EVERYTHING).shape == images[:0].shape


def test_flip_mirrors_about_half_and_nothing_else():
    images = noise_images(400, 1, 4, 5)
    flipped = augment(images, AugmentationConfig(flip=True), rng=seeded())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 140 < mirrored.sum() < 260


def test_the_generator_decides():
    images = noise_images()
    first = augment(images, EVERYTHING, rng=seeded(1))
    assert torch.equal(first, augment(images, EVERYTHING, rng=seeded(1)))
    assert not torch.allclose(first, augment(images, EVERYTHING, rng=seeded(2)), atol=0.1)


def test_each_image_gets_its_own_warp():
    images = noise_images(1).expand(5, -1, -1, -1)
    warped = augment(images, EVERYTHING, rng=seeded())
    assert (warped[1:] - warped[:-1]).abs().flatten(1).amax(1).min() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_range_shape_and_type_stay(dtype):
    images = noise_images(64, 3, 10, 17).sign().to(dtype)
    warped = augment(images, EVERYTHING, rng=seeded())
    assert warped.shape == images.shape
    assert warped.dtype == dtype
    assert warped.min() >= -1
    assert warped.max() <= 1
    assert warped.isfinite().all()


def test_a_constant_image_stays_constant_up_to_its_border():
    images = torch.full((16, 1, 11, 9), 0.3)
    config = AugmentationConfig(rotation=180, scale=2, shift=1, elastic=5)
    assert torch.allclose(augment(images, config, rng=seeded()), images)


@pytest.mark.parametrize("smoothness", [0.5, 4.0, 30.0])
def test_fields_have_unit_deviation_at_every_pixel(smoothness):
    """Six standard errors: rejects a deviation off by a tenth anywhere; false alarm below 1e-5."""
    fields = smooth_fields(4000, 14, 10, smoothness / 28, rng=seeded())
    assert fields.shape == (4000, 14, 10, 2)
    assert (fields.std(0) - 1).abs().max() < 6 / math.sqrt(2 * 4000)
    assert fields.mean(0).abs().max() < 6 / math.sqrt(4000)
    assert (fields[..., 0] * fields[..., 1]).mean(0).abs().max() < 6 / math.sqrt(4000)


def test_fields_are_as_smooth_as_stated():
    """White noise under a Gaussian of deviation s has correlation exp(-d^2 / (4 s^2)) at distance d."""
    fields = smooth_fields(4000, 28, 56, 4 / 28, rng=seeded())
    for distance in (2, 4, 8, 16):
        expected = math.exp(-(distance**2) / (4 * 4**2))
        down = (fields[:, 3] * fields[:, 3 + distance])[:, 20].mean()
        across = (fields[:, 9, 5] * fields[:, 9, 5 + 2 * distance]).mean()
        assert abs(down - expected) < 0.07
        assert abs(across - expected) < 0.07


@pytest.mark.parametrize("side", [28, 56])
def test_elastic_displaces_by_its_share_of_the_side(side):
    """A ramp shows each pixel's displacement; rejects 7/8 and 8/7 of the stated deviation."""
    ramp = torch.arange(side).float().expand(2000, 1, 20, side)
    moved = augment(ramp, AugmentationConfig(elastic=1.4), rng=seeded()) - ramp
    assert abs(moved[:, 0, 10, side // 2].std() / (1.4 * side / 28) - 1) < 0.1
    upright = ramp.transpose(2, 3)
    moved = augment(upright, AugmentationConfig(elastic=1.4), rng=seeded()) - upright
    assert abs(moved[:, 0, side // 2, 10].std() / (1.4 * side / 28) - 1) < 0.1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation", -1.0),
        ("rotation", 181.0),
        ("scale", -0.1),
        ("scale", math.inf),
        ("shear", 90.0),
        ("shift", 1.5),
        ("elastic", math.nan),
        ("elastic_smoothness", 0.0),
    ],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=rf"augmentation\.{key}="):
        AugmentationConfig(**{key: value})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_where_the_images_are():
    images = noise_images().cuda()
    warped = augment(images, EVERYTHING, rng=torch.Generator("cuda").manual_seed(0))
    assert warped.device == images.device
    assert warped.isfinite().all()


@pytest.mark.parametrize("key", ["sharpness", "gamma", "contrast", "noise"])
def test_pixel_values_vary_within_range_and_by_image(key):
    images = noise_images(6, 3) * 0.5
    varied = augment(images, AugmentationConfig(**{key: 0.5}), rng=seeded(1))
    assert varied.shape == images.shape
    assert varied.abs().max() <= 1
    change = (varied - images).flatten(1).norm(dim=1)
    assert (change > 1e-3).all()
    assert change.std() > 1e-3
    assert torch.equal(varied, augment(images, AugmentationConfig(**{key: 0.5}), rng=seeded(1)))


def test_pixel_values_follow_their_formulas():
    """Against the formulas written out with the same numbers."""
    images = noise_images(4) * 0.3
    normals = torch.randn(4, variation_size(images, AugmentationConfig()), generator=seeded(2))
    for_gamma, for_contrast = normals[:, -2:, None, None, None].unbind(1)
    black_up = (images + 1) / 2
    gamma = vary(images, AugmentationConfig(gamma=0.4), normals)
    torch.testing.assert_close(gamma, 2 * black_up ** torch.exp(0.4 * for_gamma) - 1)
    contrast = vary(images, AugmentationConfig(contrast=0.2), normals)
    torch.testing.assert_close(contrast, (2 * black_up * torch.exp(0.2 * for_contrast) - 1).clamp(-1, 1))
    noise = augment(images, AugmentationConfig(noise=0.1), rng=seeded(2)) - images
    assert noise.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.2)
    flat = torch.full((2, 1, 5, 5), 0.25)
    torch.testing.assert_close(augment(flat, AugmentationConfig(sharpness=3.0), rng=seeded(2)), flat)
    edge = torch.zeros(1, 1, 1, 6)
    edge[..., 3:] = 0.3
    sharp = augment(edge, AugmentationConfig(sharpness=3.0), rng=seeded(2))[0, 0, 0]
    assert sharp[2] < 0 < 0.3 < sharp[3], "a step gets steeper"


def test_a_teacher_of_prototypes_sees_no_noise():
    prototypes = Prototypes(torch.zeros(2, 1, 8, 8), torch.arange(2), torch.full((2,), 50.0), 1.0)
    config = AugmentationConfig(noise=0.5)
    images, _ = batches_of_prototypes(prototypes, config, 2).draw(4, seeded(3))
    assert not images.any()
    assert prototypes.draw(torch.arange(2), config, seeded(3)).any()

"""Images are known by what they show."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpsad.data.arrays import image_set_of
from dpsad.data.pixels import to_square
from dpsad.data.public_images import hashed, public_images_in, require_apart
from dpsad.privacy.provenance import UNNOTED, Provenance, PublicImages


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 9, 7)).astype(np.uint8)


def test_neither_order_nor_labels_nor_type_nor_channels_nor_repetition_matter(pixels):
    noted = hashed(image_set_of(pixels))
    assert (noted.size, len(noted.hashes)) == ((9, 7), 8 * 40)
    assert hashed(image_set_of(pixels[::-1], np.arange(40))) == noted
    assert hashed(image_set_of(pixels / 127.5 - 1)) == noted
    assert hashed(image_set_of(np.stack([pixels] * 3, axis=3))) == noted
    assert hashed(image_set_of(np.concatenate([pixels, pixels]))) == noted


def test_one_level_in_one_pixel_makes_another_image(pixels):
    images = image_set_of(pixels)
    changed = pixels.copy()
    changed[:, 4, 4] ^= 1
    require_apart("these", (hashed(image_set_of(changed)),), images)
    changed[11, 4, 4] ^= 1
    with pytest.raises(ValueError, match=r"^these: some of the images that were taken to be public are records"):
        require_apart("these", (hashed(image_set_of(changed)),), images)


def test_the_error_says_that_there_are_some_and_not_how_many(pixels):
    messages = set()
    for num in (1, 2, 40):
        with pytest.raises(ValueError, match="some of the images") as refusal:
            require_apart("these", (hashed(image_set_of(pixels)),), image_set_of(pixels[:num]))
        messages.add(str(refusal.value))
    assert len(messages) == 1


def test_records_are_compared_at_the_size_of_the_public_images(pixels):
    images = image_set_of(pixels)
    larger = replace(images, images=to_square(images.images, 16))
    with pytest.raises(ValueError, match="are records"):
        require_apart("these", (hashed(larger),), images)


def test_images_of_one_level_are_nobody_s(pixels):
    black, white = np.zeros_like(pixels[:1]), np.full_like(pixels[:1], 255)
    require_apart(
        "these", (hashed(image_set_of(np.concatenate([black, white]))),), image_set_of(np.concatenate([black, pixels]))
    )


def test_only_public_images_are_noted_and_files_keep_them(pixels):
    images = image_set_of(pixels)
    assert public_images_in(images) == public_images_in(replace(images, provenance=Provenance.RELEASED)) == ()
    (noted,) = public_images_in(replace(images, provenance=Provenance.PUBLIC))
    assert PublicImages.from_dict(noted.state_dict()) == noted
    assert PublicImages.from_dict(UNNOTED.state_dict()) == UNNOTED
    require_apart("these", (UNNOTED,), images)


def test_a_picked_image_keeps_its_origin(pixels):
    images = image_set_of(pixels)
    latents = replace(images, images=torch.zeros(40, 4, 2, 2), origin=images)
    assert hashed(latents.take(torch.tensor([5, 3]))) == hashed(image_set_of(pixels[[3, 5]]))

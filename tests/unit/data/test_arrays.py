import numpy as np
import pytest
import torch

from dpsad.data.arrays import content_ids, image_set_of, records_of

BYTES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)
LABELS = np.arange(12) % 3


def test_layouts_and_types_mean_the_same_images():
    plain = image_set_of(BYTES, LABELS)
    assert plain.image_shape == (1, 5, 4)
    assert plain.images.min() >= -1
    assert plain.images.max() <= 1
    scaled = BYTES.astype(np.float32) / 127.5 - 1
    for other in (BYTES[..., None], BYTES[:, None], torch.from_numpy(BYTES), torch.from_numpy(scaled)):
        assert torch.allclose(image_set_of(other, LABELS).images, plain.images, atol=1e-6)
    colour = np.stack([BYTES] * 3, axis=1)
    assert image_set_of(colour, LABELS).image_shape == image_set_of(colour.transpose(0, 2, 3, 1), LABELS).image_shape


def test_texts_become_classes_and_missing_labels_one():
    named = image_set_of(BYTES, np.array(["cat", "ant", "bee"])[LABELS])
    assert named.class_names == ("ant", "bee", "cat")
    assert named.labels[:3].tolist() == [2, 0, 1]
    assert image_set_of(BYTES).class_names == ("unlabelled",)


def test_a_set_that_a_program_changed_since_is_another_one():
    own = image_set_of(BYTES, LABELS)
    first = records_of(own).fingerprint()
    assert records_of(own).fingerprint() == own.fingerprint() == first
    own.images[0] *= -1
    assert records_of(own).fingerprint() != first


@pytest.mark.parametrize("gone", [0, 5, 11])
def test_a_record_that_goes_moves_no_other_s_id(gone):
    """Also where two are equal: the last of them loses its id, which stands for one of them."""
    twice = np.concatenate([BYTES, BYTES[:4]])
    labels = np.concatenate([LABELS, LABELS[:4]])
    ids = image_set_of(twice, labels).ids
    assert len(set(ids)) == len(ids)
    without = image_set_of(np.delete(twice, gone, axis=0), np.delete(labels, gone)).ids
    assert len(set(ids) - set(without)) == 1
    assert set(without) < set(ids)


def test_ids_know_the_label_and_every_pixel():
    images = torch.zeros(1, 1, 2, 2)
    other = images.clone()
    other[0, 0, 1, 1] = 2**-20
    assert len({content_ids(images, torch.tensor([label])) for label in (0, 1)}) == 2
    assert content_ids(images, torch.tensor([0])) != content_ids(other, torch.tensor([0]))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (BYTES[0], None, r"images: shape \[5, 4\]; expected"),
        (np.zeros((3, 5, 4, 2), np.uint8), None, r"with 1, 3 or 4 \(RGBA\) channels"),
        (BYTES.astype(np.int64), None, "images: int64; expected uint8, uint16, or floats"),
        (BYTES.astype(np.float32), None, r"floats in \[0, 255\]; expected \[-1, 1\]"),
        (BYTES, LABELS[:-1], r"labels have shape \[11\], there are 12 images"),
        (BYTES, LABELS / 2, "labels are float64; expected integers"),
        (BYTES, LABELS * 2, "class '1' .* has no records"),
        (BYTES, LABELS - 1, "label -1 of record"),
    ],
)
def test_what_cannot_be_read_is_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        image_set_of(images, labels)

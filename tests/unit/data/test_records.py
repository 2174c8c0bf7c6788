import hashlib
from dataclasses import replace

import pytest
import torch
from scipy.stats import binom

from dpsad.data.records import CLASSES_OF_DATA, ImageSet, validate
from dpsad.data.splits import first_in_turn, held_out, joins, rank_in_class


def image_set(num=6, *, images=None, labels=None, ids=None, class_names=("cat", "dog", "owl"), read_off=()):
    images = torch.linspace(-1, 1, num * 3 * 2 * 4).view(num, 3, 2, 4) if images is None else images
    labels = torch.arange(num) % 3 if labels is None else labels
    ids = tuple(f"r{index}" for index in range(num)) if ids is None else ids
    return ImageSet(images=images, labels=labels, ids=ids, class_names=class_names, read_off=read_off)


def test_good_records_pass_and_describe_themselves():
    records = image_set()
    assert validate(records, where="here") is records
    assert (len(records), records.num_classes, records.image_shape) == (6, 3, (3, 2, 4))


def test_take_keeps_order_and_everything_of_a_record_together():
    records = image_set()
    picked = records.take(torch.tensor([4, 1]))
    assert picked.ids == ("r4", "r1")
    assert picked.labels.tolist() == [1, 1]
    assert torch.equal(picked.images, records.images[[4, 1]])
    assert picked.class_names == records.class_names
    assert records.take(records.labels == 2).ids == ("r2", "r5")


def test_a_set_is_hashed_once_however_often_its_fingerprint_is_asked_for(monkeypatch):
    num_hashed = []

    def counted(*told, blake2b=hashlib.blake2b, **more):
        num_hashed.append(1)
        return blake2b(*told, **more)

    monkeypatch.setattr(hashlib, "blake2b", counted)
    records = image_set()
    assert len({records.fingerprint() for _ in range(5)}) == len(num_hashed) == 1
    others = [records.take(torch.arange(5)), replace(records, images=-records.images)]
    assert len({each.fingerprint() for each in (records, *others)}) == len(num_hashed) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_pixel_that_is_not_finite_leaves_its_record_out_or_is_named(value):
    """The others stay as they are where nothing was read off the records; else it is named before anything is made."""
    records = image_set(read_off=(CLASSES_OF_DATA,))
    records.images[3, 1, 1, 2] = value
    with pytest.raises(ValueError, match=rf"here: record 'r3' \(number 3, counted from 0\) has .*{value}"):
        validate(records, where="here")
    left = validate(replace(records, read_off=()), where="here")
    assert (left.ids, left.left_out) == (("r0", "r1", "r2", "r4", "r5"), 1)
    assert torch.equal(left.images, records.images[[0, 1, 2, 4, 5]])


@pytest.mark.parametrize("value", [-1.001, 1.001, 255.0])
def test_a_pixel_outside_the_range_is_named(value):
    records = image_set()
    records.images[5, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"'r5' .*has a pixel of {value:g} outside"):
        validate(records, where="here")


@pytest.mark.parametrize("label", [-1, 3, 1_000_000_000])
def test_a_label_out_of_range_leaves_its_record_out_or_is_named(label):
    labels = torch.tensor([0, 1, 2, 0, label, 2])
    with pytest.raises(ValueError, match=rf"label {label} of record 'r4' .*is outside 0\.\.2"):
        validate(image_set(labels=labels, read_off=(CLASSES_OF_DATA,)), where="here")
    assert validate(image_set(labels=labels), where="here").ids == ("r0", "r1", "r2", "r3", "r5")


def test_a_class_without_records_is_named_where_the_list_was_read_off():
    labels = torch.tensor([0, 2, 0, 2, 0, 2])
    with pytest.raises(ValueError, match=r"class 'dog' \(label 1\) has no records"):
        validate(image_set(labels=labels, read_off=(CLASSES_OF_DATA,)), where="here")
    assert validate(image_set(labels=labels), where="here").num_classes == 3


def test_an_id_that_occurs_twice_is_named():
    with pytest.raises(ValueError, match="'b' occurs more than once"):
        validate(image_set(ids=("a", "b", "c", "d", "b", "e")), where="here")


def test_no_records_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="holds no records"):
        validate(image_set(0), where="here")
    with pytest.raises(ValueError, match="holds no records"):
        validate(image_set(labels=torch.full((6,), 3)), where="here")
    with pytest.raises(ValueError, match="5 ids"):
        validate(image_set(ids=("a", "b", "c", "d", "e")), where="here")
    with pytest.raises(ValueError, match="hold no pixels"):
        validate(image_set(images=torch.empty(6, 1, 0, 4)), where="here")


@pytest.mark.parametrize("name", ["???", "a ${oc.env:HOME}"])
def test_a_class_that_no_config_could_hold_is_refused_before_anything_is_spent(name):
    with pytest.raises(ValueError, match="rename the class"):
        validate(image_set(class_names=("cat", name, "owl")), where="here")


def test_rank_in_class_agrees_with_counting():
    labels = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(0))
    counted = [labels[:index].tolist().count(label) for index, label in enumerate(labels.tolist())]
    assert rank_in_class(labels).tolist() == counted


def test_first_in_turn_serves_every_class():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 0])
    assert first_in_turn(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert first_in_turn(labels, 3).tolist() == [0, 4, 6]
    assert first_in_turn(labels, 0).tolist() == list(range(8))
    with pytest.raises(ValueError, match=r"data\.limit=2"):
        first_in_turn(labels, 2)


def test_one_record_in_five_is_held_out_for_good():
    """A change of the hash would move records between sides; so known ids are pinned."""
    share = sum(held_out(f"cat/{index}.png") for index in range(10_000)) / 10_000
    assert 0.18 < share < 0.22
    assert [index for index in range(20) if held_out(f"{index:06d}")] == [6, 8, 13, 14]


def test_a_share_keeps_the_same_records_for_good_whatever_side_they_are_on():
    """Binomial counts of 10,000 and 2,000 draws, two-sided; false alarm below 1e-6. Known ids are pinned."""
    names = [f"cat/{index}.png" for index in range(10_000)]
    kept = [name for name in names if joins(name, 0.3)]
    low, high = binom.ppf([5e-7, 1 - 5e-7], len(names), 0.3)
    assert low <= len(kept) <= high
    out = [name for name in names if held_out(name)]
    low, high = binom.ppf([5e-7, 1 - 5e-7], len(out), 0.3)
    assert low <= sum(joins(name, 0.3) for name in out) <= high
    assert {name for name in names if joins(name, 0.1)} < set(kept)
    assert all(joins(name, 1.0) for name in names)
    assert [index for index in range(20) if joins(f"{index:06d}", 0.3)] == [2, 4, 9, 11, 13, 17]

"""Which records a run is about, and which number of them is public."""

from dataclasses import replace

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(30))


def test_a_run_is_about_the_records_it_was_begun_with(context, records):
    """One pixel, one label or one record more or less makes others of them."""
    context.require_same(records)
    context.require_same(replace(records, images=records.images.clone()))
    pixel, label = records.images.clone(), records.labels.clone()
    pixel[7, 0, 3, 3] *= -1
    label[7] = (label[7] + 1) % 10
    for other in (replace(records, images=pixel), replace(records, labels=label), records.take(torch.arange(29))):
        with pytest.raises(ValueError, match=r"the records are not those that .* was begun with"):
            context.require_same(other)
    context.require_same(records)


def test_records_are_checked_when_they_are_read(context, records):
    replace(context, load_records=lambda: records).read_records()
    with pytest.raises(ValueError, match="the records are not those"):
        replace(context, load_records=lambda: records.take(torch.arange(29))).read_records()


def test_a_stated_number_of_records_is_the_one_that_counts(context, records):
    stated = replace(context, stated_num_records=25)
    assert (stated.num_records(records), stated.size_is_public) == (25, False)
    assert (context.num_records(records), context.size_is_public) == (30, True)


def test_the_number_of_records_is_the_stated_one_else_that_of_the_data_once_read(context, records):
    assert context.public_num_records is None
    context.require_same(records)
    context.require_same(records)
    assert context.public_num_records == 30
    assert replace(context, stated_num_records=100).public_num_records == 100


def test_a_note_of_the_records_without_their_number_is_still_read(context, records):
    context.run.records.write_text(records.fingerprint() + "\n", encoding="utf-8")
    context.require_same(records)
    assert context.public_num_records is None

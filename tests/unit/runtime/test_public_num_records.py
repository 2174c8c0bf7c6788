"""Which number of records is public, and what a run keeps of it."""

from dataclasses import replace

import torch

from dpsad.data.records import ImageSet

RECORDS = ImageSet(
    images=torch.zeros(3, 1, 2, 2), labels=torch.tensor([0, 1, 0]), ids=("a", "b", "c"), class_names=("x", "y")
)


def test_the_number_of_records_is_the_stated_one_else_that_of_the_data_once_read(context):
    assert context.public_num_records is None
    context.require_same(RECORDS)
    context.require_same(RECORDS)
    assert context.public_num_records == 3
    assert replace(context, stated_num_records=100).public_num_records == 100


def test_a_note_of_the_records_without_their_number_is_still_read(context):
    context.run.records.write_text(RECORDS.fingerprint() + "\n", encoding="utf-8")
    context.require_same(RECORDS)
    assert context.public_num_records is None

import torch

from dpsad.data.shards import shard_of, split_into_shards

KEY = b"key"
IDS = tuple(f"record {index}" for index in range(1000))


def test_every_record_is_in_the_one_shard_that_its_id_says():
    members = split_into_shards(IDS, 37, key=KEY).members
    assert sorted(members[members >= 0].tolist()) == list(range(1000))
    for shard, row in enumerate(members.tolist()):
        assert all(shard_of(IDS[index], 37, key=KEY) == shard for index in row if index >= 0)
        assert row == sorted(row, key=lambda index: (index < 0, index)), "rising, then -1"


def test_a_record_added_moves_no_other():
    before, after = (split_into_shards(ids, 37, key=KEY).members for ids in (IDS, ("newcomer", *IDS)))
    where = {IDS[index]: shard for shard, row in enumerate(before.tolist()) for index in row if index >= 0}
    ids = ("newcomer", *IDS)
    assert where == {ids[index]: shard for shard, row in enumerate(after.tolist()) for index in row if index > 0}


def test_shards_are_even_and_depend_on_the_key():
    """Chi-square of 1,000 records in 10 shards; false alarm 1e-6 (9 degrees of freedom, 43.5)."""
    counts = (split_into_shards(IDS, 10, key=KEY).members >= 0).sum(1).double()
    assert ((counts - 100) ** 2 / 100).sum() < 43.5
    same = [shard_of(name, 10, key=KEY) == shard_of(name, 10, key=b"other") for name in IDS]
    assert 50 < sum(same) < 160


def test_some_shards_may_be_empty():
    members = split_into_shards(IDS[:3], 50, key=KEY).members
    assert members.shape[0] == 50
    assert (members >= 0).sum() == 3
    assert torch.equal(split_into_shards(IDS[:3], 1, key=KEY).members, torch.tensor([[0, 1, 2]]))


def test_shards_can_leave_records_out():
    shards = split_into_shards(IDS, 37, key=KEY)
    kept = torch.arange(1000) % 3 == 0
    for all_of, some in zip(shards.members.tolist(), shards.only(kept).members.tolist(), strict=True):
        assert [index for index in all_of if index >= 0 and index % 3 == 0] == [index for index in some if index >= 0]

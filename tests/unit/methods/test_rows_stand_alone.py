"""Each kind of row is the same to the bit whoever else is there: one record fewer moves all later ones up a place."""

import math

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.records import ImageSet
from dpsad.data.shards import shard_of, split_into_shards
from dpsad.data.sources import load_images
from dpsad.methods import public_autoencoder
from dpsad.methods.class_means import image_rows
from dpsad.methods.dp_kernel import DpKernelConfig, bases_of, first_landmarks, function_rows, kernel_of
from dpsad.methods.dp_merf import DpMerfConfig, embedding_rows, features_of
from dpsad.methods.dp_sad.prototype_rows import record_rows, shard_rows, teacher_rows
from dpsad.methods.dp_sad.prototypes import propose_prototypes
from dpsad.methods.dp_sad.queries import Proposal
from dpsad.methods.dp_sad.second_moments import second_moments
from dpsad.methods.dp_sad.spread import difference_rows, nearest_prototypes
from dpsad.methods.private_evolution import embedding_of, vote_rows
from dpsad.methods.public_autoencoder import latents_of
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig
from dpsad.privacy.clipping import BlockRows, sum_clipped
from dpsad.training.batches import in_full_batches
from students.prototypes import Prototypes
from teachers.closed_form import ClosedFormTeachers

NUM, K, STEPS = 300, 12, 2**24
DROPPED = (0, 1, 170, NUM - 1)


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(NUM))


def without(records, index):
    return records.take(torch.arange(len(records)) != index)


def by_record(records, chunks):
    """id -> (values, block), for rows that come in the records' order."""
    values, blocks = (torch.cat(parts) for parts in zip(*((c.values, c.block) for c in chunks), strict=True))
    return dict(zip(records.ids, zip(values, blocks.tolist(), strict=True), strict=True))


def rows_of_records(records, proposal, bound):
    by_class = [(records.labels == label).nonzero().flatten() for label in range(records.num_classes)]
    order = torch.cat(by_class)
    return by_record(records.take(order), list(record_rows(records.images, by_class, proposal, bound, 0.1)))


def rows_of_features(records):
    config = DpMerfConfig(num_features=200, step_features=0)
    features = features_of(config, records.image_shape, torch.Generator().manual_seed(0))
    return by_record(records, list(embedding_rows(features, records, 0.1)))


def rows_of_functions(records):
    kernel, rng = kernel_of(DpKernelConfig(), records.image_shape), torch.Generator().manual_seed(0)
    landmarks = first_landmarks(200, records.image_shape, rng).unflatten(0, (10, -1))
    return by_record(records, list(function_rows(kernel, landmarks, bases_of(kernel, landmarks, 0.01), records, 0.1)))


def rows_of_votes(records, features):
    embed = embedding_of(features, records.image_shape, torch.device("cpu"))
    population = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return by_record(records, list(vote_rows(records, embed(population).unflatten(0, (10, -1)), embed)))


def rows_of_prototypes(records):
    centres = torch.rand(10, 7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return rows_of_records(records, propose_prototypes(centres), 4.0)


def rows_of_spread(records):
    rng = torch.Generator().manual_seed(0)
    images, directions = torch.rand(40, 1, 8, 8, generator=rng) * 2 - 1, torch.randn(9, 64, generator=rng)
    prototypes = Prototypes(images, torch.arange(40) // 4, torch.ones(40), 1.0)
    nearest = nearest_prototypes(records.images, records.labels, prototypes, 10)
    chunks = difference_rows(records.images, images, nearest, directions, 6.0)
    moments = torch.cat([second_moments(rows) for rows in chunks])
    return by_record(records, [BlockRows(moments, nearest)])


KINDS = {
    "prototypes": rows_of_prototypes,
    "class means": lambda records: by_record(records, list(image_rows(records, 0.1))),
    "random features": rows_of_features,
    "kernel functions": rows_of_functions,
    "votes": lambda records: rows_of_votes(records, "pixels"),
    "votes by scattering": lambda records: rows_of_votes(records, "scattering"),
    "spread": rows_of_spread,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", DROPPED)
def test_a_record_s_row_is_the_same_without_another_record(records, kind, index):
    rows_of = KINDS[kind]
    together, fewer = rows_of(records), rows_of(without(records, index))
    assert fewer.keys() == together.keys() - {records.ids[index]}
    for record_id, (values, block) in fewer.items():
        assert torch.equal(values, together[record_id][0])
        assert block == together[record_id][1]


def products_that_nearly_cancel(rng):
    """(20 images, 40 frequencies) whose inner products are thousands of times smaller than what they add up."""
    half = torch.randint(-(2**16), 2**16 + 1, (20, 32), generator=rng) / 2**16
    frequencies = torch.randint(-(2**16) + 4, 2**16 - 3, (32, 40), generator=rng) / 2**16
    apart = torch.randint(-4, 5, (32, 40), generator=rng) / 2**16
    frequencies[0, 0], apart[0, 0] = 1.0, 0.0  # the largest, so that whole steps of it are powers of two
    return torch.cat([half, half], dim=1).view(20, 1, 8, 8), torch.cat([frequencies, apart - frequencies])


def test_random_features_are_worked_out_without_rounding(rng):
    """Against whole numbers: sums in float32 are off in every row, in any order, and so by what stands beside it."""
    images, frequencies = products_that_nearly_cancel(rng)
    records = ImageSet(images=images, labels=torch.zeros(20).long(), ids=tuple(map(str, range(20))), class_names=("a",))
    features = features_of(DpMerfConfig(num_features=80, step_features=0), (1, 8, 8), rng)
    features.frequencies = frequencies
    whole = (2**16 * images).long().flatten(1) @ (2**16 * frequencies).long()
    phases = (whole.double() / 2**32).float()
    expected = torch.cat([phases.cos(), phases.sin()], dim=1) / math.sqrt(40)
    (rows,) = embedding_rows(features, records, 0.1)
    assert torch.equal(rows.values[:, :-1], expected * math.sqrt(0.9))
    in_float32 = (images.flatten(1) @ frequencies - phases).abs()
    assert (in_float32.max(dim=1).values > 0).all(), "the test tells exact products from others"


def halfway(rng):
    """(400 records of one class, 40 prototypes, the lower place of the two that each record is as far from)."""
    prototypes = torch.randint(-512, 513, (40, 1, 28, 28), generator=rng) / 512
    first = torch.randint(40, (400,), generator=rng)
    images = (prototypes[first] + prototypes[(first + 1) % 40]) / 2
    ids = tuple(map(str, range(400)))
    records = ImageSet(images=images, labels=torch.zeros(400).long(), ids=ids, class_names=("a",))
    return records, prototypes, torch.minimum(first, (first + 1) % 40)


def test_a_record_halfway_between_prototypes_does_not_change_sides(rng):
    """The sum moves by the record's own row, and no further: rounding decides nothing, the order of prototypes does."""
    records, prototypes, lower = halfway(rng)
    proposal = propose_prototypes(prototypes[None])

    def summed(records):
        total = torch.zeros(40, 785, dtype=torch.float64)
        for chunk in record_rows(records.images, [torch.arange(len(records))], proposal, 10.0, 0.1):
            sum_clipped(chunk, 1.0, total, STEPS)
        return total

    together, rows = summed(records), rows_of_records(records, proposal, 10.0)
    assert [block for _, block in rows.values()] == lower.tolist()
    for index in (0, 17, 399):
        fewer = without(records, index)
        assert all(block == rows[key][1] for key, (_, block) in rows_of_records(fewer, proposal, 10.0).items())
        assert (together - summed(fewer)).norm() <= STEPS * (1 + 1e-12)
    for index in range(50):
        alone = records.take(torch.tensor([index]))
        assert rows_of_records(alone, proposal, 10.0)[str(index)][1] == rows[str(index)][1]


def rows_of_shards(records, rng_seed=0):
    """kind -> what each of K shards adds to the sum, [K, images, pixels + 1] whole steps."""
    rng = torch.Generator().manual_seed(rng_seed)
    outputs = torch.rand(20, 1, 8, 8, generator=rng) - 0.5
    noisy = outputs + 0.8 * torch.randn(outputs.shape, generator=rng)
    proposal = Proposal(noisy, torch.full((20,), 0.8), torch.arange(10).repeat_interleave(2), outputs)
    shards, everyone = split_into_shards(records.ids, K, key=b"test"), torch.arange(K)
    added = {kind: torch.zeros(K, 20, 65, dtype=torch.float64) for kind in ("records", "closed form")}
    for chunk in shard_rows(records.images, records.labels, shards, everyone, proposal, 4.0, 0.1):
        for unit in chunk.unit.unique().tolist():
            own = chunk.unit == unit
            entries = BlockRows(chunk.values[own], chunk.block[own], torch.zeros(int(own.sum())).long())
            sum_clipped(entries, 0.7, added["records"][unit], STEPS)
    teachers = ClosedFormTeachers(records.images, records.labels, shards)
    (rows,) = teacher_rows(teachers, None, everyone, proposal, 4.0, 0.1)
    for unit in range(K):
        sum_clipped(rows[[unit]], 0.7, added["closed form"][unit], STEPS)
    return added


def test_a_shard_s_row_is_the_same_without_a_record_of_another(records):
    """Also of the largest shard, by whose size the others' tensors are as long as they are."""
    largest = split_into_shards(records.ids, K, key=b"test").members[:, -1].max().item()
    together = rows_of_shards(records)
    for index in (*DROPPED, largest):
        own = shard_of(records.ids[index], K, key=b"test")
        for kind, added in rows_of_shards(without(records, index)).items():
            same = [torch.equal(*pair) for pair in zip(added, together[kind], strict=True)]
            assert [unit for unit in range(K) if not same[unit]] == [own], kind


def test_networks_see_records_in_batches_of_one_size(records, monkeypatch):
    """Their kernels round by the shape of a batch, which would tell how many records there are."""
    monkeypatch.setattr(public_autoencoder, "IMAGES_AT_ONCE", 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = Autoencoder(AutoencoderConfig(channels=8), image_shape=(1, 8, 8)).requires_grad_(False)
    seen, encode = [], autoencoder.encode
    monkeypatch.setattr(autoencoder, "encode", lambda images: seen.append(len(images)) or encode(images))
    latents = latents_of(autoencoder, records)
    assert seen == [64] * 5
    assert len(latents.images) == NUM
    torch.testing.assert_close(latents.images, encode(records.images), rtol=1e-4, atol=1e-5)


def test_full_batches_hold_everyone_once():
    numbers = torch.arange(1, 8)
    batches = list(in_full_batches(3, numbers, numbers.float()[:, None]))
    assert [num for num, _ in batches] == [3, 3, 1]
    assert torch.cat([first[:num] for num, (first, _) in batches]).tolist() == numbers.tolist()
    assert batches[-1][1][1].tolist() == [[7.0], [0.0], [0.0]]
    assert list(in_full_batches(3, numbers[:0])) == []

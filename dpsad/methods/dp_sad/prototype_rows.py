"""Who moves prototypes into place: a record, a shard's records together, or a shard's teacher.

Each gives one row a unit over all proposed images. The block of an image holds the difference from it, over its bound,
beside a number that counts whoever it is from; it is zero where it is from nobody.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from discriminators.shard_discriminators import ShardDiscriminators
from dpsad.data.shards import Shards, in_chunks
from dpsad.methods.dp_sad.queries import Proposal
from dpsad.privacy.clipping import BlockRows, clip_rows, clip_scale
from dpsad.privacy.exact import exact_products
from teachers.base import Teacher

CHUNK = 4096  # records, or blocks of shards' rows, that are held at once
RANGE = 2.0  # of pixels where distances are taken: they are in [-1, 1]


def record_rows(
    images: Tensor, by_class: list[Tensor], proposal: Proposal, bound: float, count_share: float
) -> Iterator[BlockRows]:
    """Each record's row: [sqrt(1 - a) * clip(image - output) / bound, sqrt(a)] in the block of its nearest output.

    Args:
        images: [num, chan, height, width] records.
        by_class: the records of each class.
        proposal: prototypes, class by class, equally many of each.
        bound: on the norm of a difference.
        count_share: a.

    Returns:
        Chunks of block rows, each row of norm at most 1 and a function of one record and the proposal.
    """
    own = proposal.outputs.unflatten(0, (len(by_class), -1))
    for label, members in enumerate(by_class):
        for index in members.split(CHUNK) if len(members) else ():
            values, nearest = _differences_from_nearest(images[index], own[label], bound, count_share)
            yield BlockRows(values, label * own.shape[1] + nearest)


def shard_rows(
    images: Tensor, labels: Tensor, shards: Shards, joined: Tensor, proposal: Proposal, bound: float, count_share: float
) -> Iterator[BlockRows]:
    """Each shard's row: the sum of what its records' rows would be.

    Args:
        images, labels: the records.
        shards: which shard each record is in.
        joined: [units] shards that take part.
        proposal, bound, count_share: as for `record_rows`.

    Returns:
        Chunks of block rows, not clipped; each row is a function of one shard and the proposal.
    """
    num_classes = int(proposal.labels.max()) + 1
    own = proposal.outputs.unflatten(0, (num_classes, -1))
    for part in in_chunks(joined, CHUNK * shards.num_shards // max(1, len(images))):
        members = shards.members[part]
        unit, place = (members >= 0).nonzero(as_tuple=True)
        index = members[unit, place]
        values, blocks, units = [], [], []
        for label in labels[index].unique().tolist():
            here = labels[index] == label
            differences, nearest = _differences_from_nearest(images[index[here]], own[label], bound, count_share)
            values.append(differences)
            blocks.append(label * own.shape[1] + nearest)
            units.append(unit[here])
        if values:
            yield BlockRows(torch.cat(values), torch.cat(blocks), torch.cat(units))


def teacher_rows(
    teachers: Teacher,
    discriminators: ShardDiscriminators | None,
    joined: Tensor,
    proposal: Proposal,
    bound: float,
    count_share: float,
) -> Iterator[Tensor]:
    """Each shard's row: how far its own teacher, and its own discriminator, would move each proposed output.

    Args:
        teachers: one for each shard, provenance private; may have no answer, NaN, where the shard knows no such class.
        discriminators: one for each shard; their gradient at the outputs joins the difference. None leaves it out.
        joined: [units] shards that take part.
        proposal: public inputs, and the student's outputs for them.
        bound, count_share: as for `record_rows`.

    Returns:
        Chunks of dense rows [units, proposed images, pixels + 1], not clipped as a whole; each row is a function of
        one shard and the proposal.
    """
    outputs = proposal.outputs
    for part in in_chunks(joined, CHUNK // len(outputs)):
        answers = teachers.denoise(proposal.inputs, proposal.sigma, proposal.labels, part)
        rows = torch.empty(len(part), len(outputs), outputs[0].numel() + 1, device=outputs.device)
        differences, answered = rows[..., :-1], rows[..., -1]
        torch.sub(answers.flatten(2), outputs.flatten(1), out=differences)
        if discriminators is not None:
            differences += discriminators.pulls(part, answers, outputs, proposal.sigma, proposal.labels).flatten(2)
        norm = differences.norm(dim=2)
        answered.copy_(norm.isfinite()).mul_(math.sqrt(count_share))
        differences *= (clip_scale(norm, bound) * (math.sqrt(1 - count_share) / bound))[..., None]
        if not norm.isfinite().all():
            differences[~norm.isfinite()] = 0  # 0 times NaN would be NaN
        yield rows


def _differences_from_nearest(
    images: Tensor, outputs: Tensor, bound: float, count_share: float
) -> tuple[Tensor, Tensor]:
    """Rows of records of one class, [num, pixels + 1] of norm at most 1, and which output is nearest to each."""
    flat, own = images.flatten(1), outputs.flatten(1)
    nearest = nearest_outputs(flat, own)
    differences = clip_rows(flat - own[nearest], bound) * (math.sqrt(1 - count_share) / bound)
    ones = torch.full((len(flat), 1), math.sqrt(count_share), device=flat.device)
    return torch.cat([differences, ones], dim=1), nearest


def nearest_outputs(records: Tensor, outputs: Tensor) -> Tensor:
    """Which output is nearest to each record: [num, pixels] and [outputs, pixels] -> [num].

    Formal guarantee: a function of one record, to the bit. A distance that other records round otherwise would send a
    record to another output, and move the sum by twice its row.
    """
    # ||record - output||^2 up to what is the same for all outputs
    return (outputs.double().square().sum(1) - 2 * exact_products(records, outputs, RANGE, RANGE)).argmin(1)

"""Batches of images to learn from, with what they give to whoever learns from them: provenance and public images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsad.data.augmentation import AugmentationConfig, augment
from dpsad.data.public_images import public_images_in
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards
from dpsad.privacy.provenance import Provenance, PublicImages
from students.prototypes import Prototypes

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batches:
    """A source of images.

    provenance: what it shows of records.
    draw: how many images, a public stream -> images [num, chan, height, width] and their labels [num].
    public_images: which images these are, where they are public.
    """

    provenance: Provenance
    draw: Draw
    public_images: tuple[PublicImages, ...] = ()


def in_full_batches(size: int, *tensors: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """Splits tensors of one length into batches of `size`, the last filled up with zeros; yields how many count.

    Networks round what they make of a record by the shape of the batch that it is in. Where the number of records is
    private, the shape must not tell it.
    """
    for parts in zip(*(tensor.split(size) for tensor in tensors), strict=True):
        num = len(parts[0])
        if num:
            yield num, [torch.cat([part, part.new_zeros(size - num, *part.shape[1:])]) for part in parts]


def batches_of_prototypes(prototypes: Prototypes, augmentation: AugmentationConfig, num_classes: int) -> Batches:
    """Varied prototypes of classes drawn evenly, for a model that is to make images."""
    augmentation = replace(augmentation, noise=0.0)

    def draw(num: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(num_classes, (num,), generator=rng, device=rng.device)
        return prototypes.draw(labels, augmentation, rng), labels

    return Batches(prototypes.provenance, draw)


def batches_as_they_are(images: ImageSet, device: torch.device) -> Batches:
    """Random images of a set, or latents of some."""
    pixels, labels = images.images.to(device), images.labels.to(device)

    def draw(num: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(pixels), (num,), generator=rng, device=device)
        return pixels[index], labels[index]

    return Batches(images.provenance, draw, public_images_in(images))


def batches_of_images(images: ImageSet, augmentation: AugmentationConfig, device: torch.device) -> Batches:
    """Random images of a set, varied."""
    as_they_are = batches_as_they_are(images, device)

    def draw(num: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        pixels, labels = as_they_are.draw(num, rng)
        return augment(pixels, augmentation, rng=rng).clamp(-1, 1), labels

    return replace(as_they_are, draw=draw)


def batches_of_shards(records: ImageSet, shards: Shards, batch_size: int) -> Batches:
    """Records of every shard for as many denoisers trained side by side, the first shard's part first.

    Args:
        records: on the device of the stream to come, as `shards` are.
        batch_size: records of each shard, with repetition; an empty shard gives black images without a label.

    Returns:
        Batches of a fixed number of images, num_shards * batch_size.
    """
    members, counts = shards.members, (shards.members >= 0).sum(1)

    def draw(num: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        places = torch.rand(len(members), batch_size, generator=rng, device=rng.device) * counts[:, None]
        index = members.gather(1, places.long()).flatten()
        assert len(index) == num
        known = index >= 0
        images = torch.where(known[:, None, None, None], records.images[index], -1.0)
        return images, torch.where(known, records.labels[index], records.num_classes)

    return Batches(records.provenance, draw)

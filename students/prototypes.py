"""Prototypes: class-conditional images that stand for a number of records each."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsad.data.augmentation import AugmentationConfig, augment
from dpsad.privacy.provenance import Provenance
from students.seeds import places_drawn
from students.spread import Spread


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Images, each standing for a number of records.

    Attributes:
        images: [num, chan, height, width] in [-1, 1].
        labels: [num] int64.
        counts: [num] released counts of the records behind each image; noisy, may be negative.
        min_count: images behind which there are fewer are noise, and are not drawn.
        provenance: released, so that all of it may be shared, unless rows were no rows.
        spread: how records lie around the images; None where that was not released.
    """

    images: Tensor
    labels: Tensor
    counts: Tensor
    min_count: float
    provenance: Provenance = Provenance.RELEASED
    spread: Spread | None = None

    def draw(self, labels: Tensor, augmentation: AugmentationConfig, rng: torch.Generator) -> Tensor:
        """Draws an image for each label, in proportion to the released counts and within their spread, and varies it.

        Args:
            labels: [batch] classes.
            augmentation: public variation.
            rng: on the device of the prototypes.

        Returns:
            [batch, chan, height, width] in [-1, 1].
        """
        uniform = torch.rand(len(labels), generator=rng, device=rng.device)
        normals = torch.randn(len(labels), self.spread_dim, generator=rng, device=rng.device)
        return augment(self.spread_out(self.choose(labels, uniform), normals), augmentation, rng=rng).clamp(-1, 1)

    @property
    def spread_dim(self) -> int:
        """How many normal numbers `spread_out` takes for an image."""
        return 0 if self.spread is None else self.spread.dim

    def spread_out(self, chosen: Tensor, normals: Tensor) -> Tensor:
        """Prototypes, each moved to where a record might lie around it.

        Args:
            chosen: [batch] places of prototypes.
            normals: [batch, spread_dim] standard normal.

        Returns:
            [batch, chan, height, width] in [-1, 1].
        """
        images = self.images[chosen]
        if self.spread is None:
            return images
        differences = self.spread.differences(chosen, len(self.images), normals)
        return (images + differences.reshape(images.shape)).clamp(-1, 1)

    def choose(self, labels: Tensor, uniform: Tensor) -> Tensor:
        """Which prototype each image is of, in proportion to the released counts.

        Args:
            labels: [batch] classes.
            uniform: [batch] uniform numbers in [0, 1).

        Returns:
            [batch] index into the prototypes.
        """
        return places_drawn(self._weights()[labels], uniform)

    def _weights(self) -> Tensor:
        """[classes, num] how often each prototype is drawn for a class; classes without any large one draw all."""
        num_classes = int(self.labels.max()) + 1
        own = self.labels == torch.arange(num_classes, device=self.labels.device)[:, None]
        counts = torch.where(self.counts >= self.min_count, self.counts.float(), 0)
        weights = own * counts
        return torch.where(weights.sum(1, keepdim=True) > 0, weights, own.float())

    def to(self, device: torch.device) -> "Prototypes":
        moved = {key: getattr(self, key).to(device) for key in ("images", "labels", "counts")}
        spread = self.spread and Spread(self.spread.basis.to(device), self.spread.factors.to(device))
        return replace(self, **moved, spread=spread)

    def state_dict(self) -> dict:
        spread = self.spread and vars(self.spread)
        return {**vars(self), "provenance": self.provenance.value, "spread": spread}

    @staticmethod
    def from_dict(state: dict) -> "Prototypes":
        """Takes up what `state_dict` gave; versions before 0.2 made none but released ones, and did not say so."""
        provenance = Provenance(state.get("provenance", Provenance.RELEASED))
        spread = Spread(**state["spread"]) if state.get("spread") else None
        return Prototypes(**{**state, "provenance": provenance, "spread": spread})

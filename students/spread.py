"""Spread: how records lie around the prototypes that stand for them, as released covariances."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spread:
    """Covariances of the differences from prototypes, one for each group of neighbouring prototypes.

    With it, prototypes are a mixture of Gaussians in a low-dimensional space each.

    Attributes:
        basis: [dim, pixels] directions in which images differ.
        factors: [groups, dim, dim]; a group's covariance along the basis is factor^T factor. As many prototypes in turn
            belong to each group.

    Source: Ghahramani and Hinton 1996; of images, Richardson and Weiss 2018.
    """

    basis: Tensor
    factors: Tensor

    @property
    def dim(self) -> int:
        """How many normal numbers a difference takes."""
        return len(self.basis)

    def differences(self, chosen: Tensor, num_prototypes: int, normals: Tensor) -> Tensor:
        """Draws differences from prototypes.

        Args:
            chosen: [batch] places of prototypes among `num_prototypes`.
            normals: [batch, dim] standard normal.

        Returns:
            [batch, pixels].
        """
        group = chosen // (num_prototypes // len(self.factors))
        return (normals[:, None] @ self.factors[group])[:, 0] @ self.basis

"""Nearest neighbours among many vectors, a bounded number of distances at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

MAX_DISTANCES = 2**24  # at once: 64 MiB of float32


def distances(queries: Tensor, anchors: Tensor, *, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Euclidean distances of all queries to all anchors, in chunks of queries.

    Args:
        queries: [num_queries, dim].
        anchors: [num_anchors, dim].
        device: where to compute, and where the chunks lie.

    Yields:
        [queries of this chunk, num_anchors], at most `MAX_DISTANCES` numbers unless one query needs more. They come
        from inner products: float32 rounds them to about 1e-3 of the vectors' norms.
    """
    anchors = anchors.to(device)
    for chunk in queries.split(max(1, MAX_DISTANCES // len(anchors))):
        yield torch.cdist(chunk.to(device), anchors)


def nearest(
    queries: Tensor, anchors: Tensor, *, own: Tensor | None = None, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The nearest anchor of each query.

    Args:
        queries: [num_queries, dim].
        anchors: [num_anchors, dim], one or more.
        own: [num_queries] index of the anchor that is the query itself and does not count; None where there is none.
        device: where to compute.

    Returns:
        Distances [num_queries], exact to float32, and indices [num_queries] of the anchors; both on the CPU.
    """
    index = torch.empty(len(queries), dtype=torch.int64)
    done = 0
    for chunk in distances(queries, anchors, device=device):
        here = slice(done, done + len(chunk))
        if own is not None:
            chunk.scatter_(1, own[here, None].to(device), torch.inf)
        index[here] = chunk.argmin(dim=1).cpu()
        done += len(chunk)
    parts = zip(queries.split(1000), index.split(1000), strict=True)
    return torch.cat([(part - anchors[where]).norm(dim=1) for part, where in parts]), index


def neighbour_radii(points: Tensor, ranks: tuple[int, ...], *, device: torch.device | str = "cpu") -> list[Tensor]:
    """Distance of each point to its k-th nearest neighbour among the others, for each k in `ranks`.

    Args:
        points: [num, dim], num > max(ranks).
        ranks: neighbours to count to, each >= 1.
        device: where to compute, and where the radii lie.

    Returns:
        One [num] for each rank.
    """
    # the point itself comes first, at distance 0
    smallest = torch.cat(
        [chunk.topk(max(ranks) + 1, largest=False).values for chunk in distances(points, points, device=device)]
    )
    return [smallest[:, rank] for rank in ranks]

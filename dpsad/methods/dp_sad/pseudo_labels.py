"""Pseudo-labels: clusters that stand in for labels, where nothing is formal."""

from pathlib import Path

from dpsad.data.clusters import Clusters, find_clusters
from dpsad.data.records import ImageSet
from dpsad.errors import reading
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.runtime.context import Context


def read_records(settings: DpSadSettings, context: Context) -> ImageSet:
    """The private records, under their own labels or, where asked for, under pseudo-labels."""
    records = context.read_records()
    return label_by_clusters(settings, context, records) if settings.data.pseudo_labels else records


def label_by_clusters(settings: DpSadSettings, context: Context, records: ImageSet) -> ImageSet:
    """The records under the pseudo-labels that the run's teacher goes by, which are kept in the run's private/.

    Raises:
        ValueError: the teacher at `teacher.path` was taught without clusters, or with another number of them.
    """
    own, number = context.run.clusters, settings.data.pseudo_labels
    taught = own if settings.teacher.path is None else Path(settings.teacher.path).with_name(own.name)
    if not own.exists():
        if taught.exists():
            save_atomic(load(taught), own)
        elif taught == own:
            save_atomic(find_clusters(records, number).state_dict(), own)
        else:
            raise ValueError(
                f"data.pseudo_labels={number}, but there is no {taught}: the teacher knows no clusters; teach one with "
                "data.pseudo_labels, or pass data.pseudo_labels=0"
            )
    with reading(own):
        clusters = Clusters(**load(own))
    if len(clusters.centres) != number:
        raise ValueError(
            f"data.pseudo_labels={number}, but the teacher knows {len(clusters.centres)} clusters; pass that number"
        )
    return clusters.label(records)

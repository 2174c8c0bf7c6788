"""The ablations of `dpsad ablate`, as data: what is changed, cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A series of runs that differ in one respect.

    Attributes:
        name: after `dpsad ablate`.
        shows: what one learns from it.
        axis: what differs, for tables and plots.
        cells: name of each run, and the `key=value` that make it, in order.
        needs: the guarantee without which the settings do nothing; None where any will do.
    """

    name: str
    shows: str
    axis: str
    cells: dict[str, tuple[str, ...]]
    needs: str | None = None


def over(key: str, values: Sequence[object]) -> dict[str, tuple[str, ...]]:
    """A cell for each value of a key."""
    return {str(value): (f"{key}={value}",) for value in values}


_TOLD = {"told": "true", "not told": "false"}

ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        Ablation(
            name="lambda",
            shows="what the discriminator's weight does; 0 is without one",
            axis="student.adversarial_weight",
            cells=over("student.adversarial_weight", (0, 0.2, 0.5, 1, 2, 4)),
        ),
        Ablation(
            name="timesteps",
            shows="how long a diffusion chain should be; the published noise falls as 1/T",
            axis="nominal.num_levels",
            cells=over("nominal.num_levels", (50, 100, 250, 500, 1000)),
            needs="nominal",
        ),
        Ablation(
            name="clip",
            shows="how far to clip each image's gradient",
            axis="nominal.clip_norm",
            cells=over("nominal.clip_norm", (1, 10, 100, 1000)),
            needs="nominal",
        ),
        Ablation(
            name="levels",
            shows="a random timestep per image against all T, which take T times as long a step",
            axis="nominal.timesteps",
            cells=over("nominal.timesteps", ("one", "all")),
            needs="nominal",
        ),
        Ablation(
            name="conditioning",
            shows="whether student and discriminator should be told the class",
            axis="student, discriminator",
            cells={
                f"{student}, {discriminator}": (
                    f"student.use_labels={told}",
                    f"discriminator.use_labels={discriminator_told}",
                )
                for student, told in _TOLD.items()
                for discriminator, discriminator_told in _TOLD.items()
            },
        ),
        Ablation(
            name="shards",
            shows="into how many shards to divide the records",
            axis="shards.num_shards",
            cells=over("shards.num_shards", (1, 10, 100, 1000)),
            needs="shards",
        ),
    )
}

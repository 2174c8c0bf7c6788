"""Method: settings, the releases it plans, and one function that trains its student."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dpsad.data.records import Subject
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import provenance_of, public_images_of, require_released
from dpsad.privacy.statement import formal_statement
from dpsad.release.students import Releasable
from dpsad.runtime.context import Context

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Trained:
    """What training gives: a model that may be handed out, and what may be claimed of it.

    statement: becomes privacy.json.
    """

    made: Releasable
    statement: dict


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training, by what it leaves in the run's private/, and what of the config is settled by then.

    files: where one of them is there, it has begun.
    keys: keys and sections that it goes by, which must not change any more.
    planned: what the noise of its releases takes from keys of later stages, key by key; that must not change either.
    """

    name: str
    files: tuple[str, ...]
    keys: tuple[str, ...]
    planned: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What training holds in memory at once, besides its data.

    num_bytes, what, mend: as for `require_memory`.
    """

    num_bytes: float
    what: str
    mend: str


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What comes of a run, as far as public numbers tell.

    made: a student that has seen nothing, of the form that will be handed out.
    held: what may be too large for memory.
    kept: bytes that the run writes beside copies of the student's weights.
    """

    made: Releasable
    held: tuple[Held, ...] = ()
    kept: float = 0.0


@dataclass(frozen=True)
class Method(Generic[Settings]):
    """A way to train a private image generator.

    name: the value of `method`.
    about: what it is and what it costs, for `dpsad baseline --help`.
    settings: dataclass whose fields are the sections of the config that it goes by, and no others.
    guarantees: those that its rows can give.
    stages: settings -> its stages, in order.
    plans: settings, the budget, number of records -> every release that it will make, in order, before a record is
        read. Charges nothing.
    rehearse: settings, what the images are of, number of records -> what will come of it. Refuses what training would
        refuse for its settings, the sizes of the data or a file that it needs, after something was spent.
    train: trains its student, provenance released, or goes on where it stopped; charges the ledger with what `plans`
        says.
    shared: the guarantees under which several processes may train it together: its units are shared out among
        `context.ranks`, and so is whoever draws noise.
    """

    name: str
    about: str
    settings: type[Settings]
    guarantees: tuple[str, ...]
    stages: Callable[[Settings], tuple[Stage, ...]]
    plans: Callable[[Settings, Ledger, int], list[ReleasePlan]]
    rehearse: Callable[[Settings, Subject, int], Rehearsal]
    train: Callable[[Settings, Context], Trained]
    shared: tuple[str, ...] = ()


def rows_held(section: str, num_rows: int, num_parameters: int) -> Held:
    """Gradient rows of a chunk of records."""
    return Held(
        num_bytes=4.0 * num_rows * num_parameters,
        what=f"{section}.chunk_size={num_rows}: rows of so many records, of {num_parameters:,} parameters each,",
        mend=f"lower {section}.chunk_size",
    )


def require_records_for(key: str, number: int, num_records: int) -> None:
    """Refuses more shards than there are records.

    Raises:
        ValueError: likewise.
    """
    if number > num_records:
        raise ValueError(f"{key}={number} is more than the {num_records} records there are; lower it")


def formally(made: Releasable, context: Context, guarantee: str, *, uses_size: bool = True) -> Trained:
    """What was trained through the ledger's releases alone, with the statement that follows from them.

    Args:
        uses_size: whether the number of records went into it.

    Raises:
        ValueError: the model has seen records without protection, as public images too.
    """
    require_released("the student", provenance_of(made.model), "a release that claims a guarantee")
    public_images = public_images_of(made.model)
    context.require_apart("the student", public_images)
    statement = formal_statement(
        context.ledger,
        guarantee=guarantee,
        size_is_public=uses_size and context.size_is_public,
        num_records=context.public_num_records if uses_size or not context.size_is_public else None,
        public_images=public_images,
    )
    return Trained(made, statement)

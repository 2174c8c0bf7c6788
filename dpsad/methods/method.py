"""Method: settings, the releases it plans, and one function that trains its student."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

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


@dataclass(frozen=True)
class Method(Generic[Settings]):
    """A way to train a private image generator.

    name: the value of `method`.
    about: what it is and what it costs, for `dpsad baseline --help`.
    settings: dataclass whose fields are the sections of the config that it goes by, and no others.
    guarantees: those that its rows can give.
    checkpoint: the name of its last stage's.
    then_fixed: sections of the config that must not change once that checkpoint is there.
    plans: settings, the budget, number of records -> every release that it will make, in order, before a record is
        read. Charges nothing.
    train: trains its student, provenance released, or goes on where it stopped; charges the ledger with what `plans`
        says.
    """

    name: str
    about: str
    settings: type[Settings]
    guarantees: tuple[str, ...]
    checkpoint: str
    then_fixed: tuple[str, ...]
    plans: Callable[[Settings, Ledger, int], list[ReleasePlan]]
    train: Callable[[Settings, Context], Trained]


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

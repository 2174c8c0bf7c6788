"""The parts of a private training loop: plan, charge, clip, sum, noise. docs/extending.md has one in ten lines."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsad.privacy.accounting import epsilon_of
    from dpsad.privacy.ledger import BudgetExceeded, Ledger
    from dpsad.privacy.no_mixing import require_no_mixing
    from dpsad.privacy.per_example_gradients import set_gradients
    from dpsad.privacy.plan import ReleasePlan, Unit
    from dpsad.privacy.provenance import Provenance
    from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
    from dpsad.privacy.rows_of_any_model import gradient_rows
    from dpsad.privacy.sanitizer import Sanitizer
    from dpsad.privacy.statement import formal_statement

_HOMES = {
    "BudgetExceeded": "ledger",
    "Ledger": "ledger",
    "PrivateRandomness": "randomness",
    "Provenance": "provenance",
    "ReleasePlan": "plan",
    "Sanitizer": "sanitizer",
    "Unit": "plan",
    "epsilon_of": "accounting",
    "formal_statement": "statement",
    "gradient_rows": "rows_of_any_model",
    "poisson_sample": "randomness",
    "require_no_mixing": "no_mixing",
    "set_gradients": "per_example_gradients",
}
__all__ = [
    "BudgetExceeded",
    "Ledger",
    "PrivateRandomness",
    "Provenance",
    "ReleasePlan",
    "Sanitizer",
    "Unit",
    "epsilon_of",
    "formal_statement",
    "gradient_rows",
    "poisson_sample",
    "require_no_mixing",
    "set_gradients",
]


def __getattr__(name: str) -> Any:
    """Loads a name when it is asked for, as `dpsad` itself does."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"dpsad.privacy.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dpsad.privacy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Private image generators by distillation.

import dpsad

student = dpsad.train(images, labels, epsilon=10, delta=1e-5)
student.sample([0, 1, 2])
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsad.api.judging import Comparison, compare, evaluate
    from dpsad.api.student import PrivacyStatement, Student
    from dpsad.api.training import Plan, plan, train
    from dpsad.data.arrays import image_set_of
    from dpsad.data.records import ImageSet
    from dpsad.release.export import load_student

# before torch is loaded: threads that wait sleep, where they would spin and take the processor from those that work
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
__all__ = [
    "Comparison",
    "ImageSet",
    "Plan",
    "PrivacyStatement",
    "Student",
    "compare",
    "evaluate",
    "image_set_of",
    "load_student",
    "plan",
    "train",
]

_HOMES = {
    "Comparison": "dpsad.api.judging",
    "ImageSet": "dpsad.data.records",
    "Plan": "dpsad.api.training",
    "PrivacyStatement": "dpsad.api.student",
    "Student": "dpsad.api.student",
    "compare": "dpsad.api.judging",
    "evaluate": "dpsad.api.judging",
    "image_set_of": "dpsad.data.arrays",
    "load_student": "dpsad.release.export",
    "plan": "dpsad.api.training",
    "train": "dpsad.api.training",
}


def __getattr__(name: str) -> Any:
    """Loads a name when it is asked for, so that importing one room of the package does not load all."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dpsad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Private image generators by distillation."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_student"]


def __getattr__(name: str) -> Any:
    """Loads `load_student` when it is asked for, so that importing one room of the package does not load all."""
    if name == "load_student":
        from dpsad.release.export import load_student

        return load_student
    raise AttributeError(f"module 'dpsad' has no attribute {name!r}")

"""Private image generators by distillation."""

from dpsad.release import load_student

__version__ = "0.1.0"
__all__ = ["load_student"]

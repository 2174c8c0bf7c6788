"""What an .npz file holds; pickles are never loaded."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ArrayHeader:
    """An array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0


def keys_of(path: Path, where: str) -> list[str]:
    """Names of the arrays.

    Raises:
        ValueError: no .npz file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.keys())
    except Exception as error:  # numpy and zipfile raise half a dozen kinds for broken bytes
        raise ValueError(f"{where}: not a readable .npz file ({error}); write it again with numpy.savez") from error


def array_of(path: Path, key: str, where: str) -> np.ndarray:
    """Reads an array.

    Raises:
        ValueError: it is broken, or of Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[key]
    except Exception as error:
        raise ValueError(f"{where}: cannot read '{key}' ({error}); write it again without pickled objects") from error


def header_of(path: Path, key: str, where: str) -> ArrayHeader:
    """Reads shape and type alone: an array may be larger than what is wanted of it.

    Raises:
        ValueError: it is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read[np.lib.format.read_magic(file)](file)
            return ArrayHeader(shape, dtype)
    except Exception as error:
        raise ValueError(f"{where}: cannot read '{key}' ({error}); write it again with numpy.savez") from error

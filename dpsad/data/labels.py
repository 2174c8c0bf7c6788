"""Labels as archives have them: numbers from anywhere on, one-hot rows or texts, to 0 .. classes - 1."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def flat_labels(array: np.ndarray, *, where: str, skip_broken: bool) -> np.ndarray:
    """One label a record.

    Args:
        array: [num] or [num, 1] integers or texts, or [num, classes] one-hot rows of any type of number.
        where: the array as its user named it.
        skip_broken: takes a row that is not one-hot for -1, a label that is none, so that it touches no other's.

    Returns:
        [num] int64, or texts.

    Raises:
        ValueError: another shape or type, a row that is not one-hot.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf":
        one_hot = ((array == 0) | (array == 1)).all(axis=1) & ((array == 1).sum(axis=1) == 1)
        if skip_broken or one_hot.all():
            return np.where(one_hot, (array == 1).argmax(axis=1), -1)
        broken = int((~one_hot).nonzero()[0][0])
        raise ValueError(
            f"{where} is {array.dtype} {list(array.shape)}, and row {broken} is not one-hot: it needs a single 1 among "
            "zeros; give each record one class, such as one of the columns"
        )
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise ValueError(
            f"{where} is {array.dtype} {list(array.shape)}; expected one class a record: integers or texts, [num] or "
            "[num, 1], or one-hot rows [num, classes]"
        )
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    return array if array.dtype.kind == "U" else array.astype(np.int64)


def names_found(labels: Collection[np.ndarray], first_label: int, *, where: str) -> tuple[tuple[str, ...], int]:
    """Names of the classes that all labels tell together, and the label of the first of them.

    Args:
        labels: of each side, as `flat_labels` returns them.
        first_label: 0 takes the smallest label that is there.
        where: the source as its user named it.

    Returns:
        Texts by the alphabet, or numbers from the first label to the largest: at most one class a record, so that
        `validate` names a label that is far out.

    Raises:
        ValueError: texts on one side and numbers on the other.
    """
    if len({side.dtype.kind for side in labels}) > 1:
        raise ValueError(f"{where}: labels are texts on one side and numbers on the other; write them alike")
    known = np.concatenate(list(labels))
    if known.dtype.kind == "U":
        return tuple(sorted(set(known.tolist()))), 0
    if not len(known):
        return numbers_from(first_label, 1), first_label
    first = first_label or max(int(known.min()), 0)
    return numbers_from(first, min(max(int(known.max()) + 1 - first, 1), len(known))), first


def numbers_from(first: int, num: int) -> tuple[str, ...]:
    """Classes without names: so many numbers."""
    return tuple(str(first + place) for place in range(num))


def numbered(labels: np.ndarray, class_names: tuple[str, ...], first_label: int) -> np.ndarray:
    """[num] int64 places among the classes: texts by name, -1 for one that is none; numbers from the first label on."""
    if labels.dtype.kind != "U":
        return labels - first_label
    place_of = {name: place for place, name in enumerate(class_names)}
    return np.array([place_of.get(text, -1) for text in labels.tolist()], dtype=np.int64)


def remarks_on(labels: Collection[np.ndarray], first_label: int) -> list[str]:
    """What was made of labels that are not numbers from 0 on."""
    if any(side.dtype.kind == "U" for side in labels):
        return ["labels are texts: each is the place of its class among the class names"]
    return [f"labels begin at {first_label}: that is the first class, and label 0 here"] if first_label else []

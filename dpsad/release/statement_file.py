"""privacy.json of a release: whether it can be one, and whether it is of the weights beside it."""

import hashlib
import math
from pathlib import Path
from typing import Any

from dpsad.errors import reading
from dpsad.privacy.plan import ReleasePlan
from dpsad.runtime.json_files import read_json
from dpsad.runtime.run_folder import STATEMENT, WEIGHTS

WEIGHTS_HASH = "weights_sha256"  # files from before version 0.2 have none
_NUMBER = (float, int)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "guarantee": str,
    "method": str,
    "formal": bool,
    "epsilon": (*_NUMBER, type(None)),
    "delta": float,
    "records_per_person": int,
    "events": list,
    "reasons": list,
    "not_covered": list,
    WEIGHTS_HASH: str,
}
UNNOTED = {"method": "", "records_per_person": 1, WEIGHTS_HASH: ""}  # where older files say nothing


def read_statement(path: Path) -> dict[str, Any]:
    """The statement that a file holds, as it stands.

    Raises:
        ValueError: it is missing or damaged, or says what no statement can.
    """
    saved = read_json(path)
    statement = {**UNNOTED, **saved}
    for key, kind in _TYPES.items():
        value = statement.get(key)
        if key not in statement or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            said = f"{key} is {value!r}" if key in statement else f"it has no {key}"
            raise ValueError(f"{path} is damaged and cannot be read: {said}; restore it from a copy of the release")
    epsilon, delta, formal = statement["epsilon"], statement["delta"], statement["formal"]
    if (formal and epsilon is None) or (epsilon is not None and not 0 <= epsilon < math.inf):
        wrong = f"epsilon={epsilon}, where formal={formal}"
    elif not 0 < delta < 1:
        wrong = f"delta={delta}"
    elif not all(isinstance(line, str) for line in (*statement["reasons"], *statement["not_covered"])):
        wrong = "reasons and not_covered, which must be texts"
    else:
        with reading(path):
            for event in statement["events"]:
                ReleasePlan.from_dict(event)
        return saved
    raise ValueError(f"{path} is damaged and cannot be read: it says {wrong}; restore it from a copy of the release")


def hash_of(weights: Path) -> str:
    """SHA-256 of a file of weights, in hexadecimal digits."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def require_own_statement(release: Path) -> None:
    """Refuses a release whose privacy.json is missing, damaged, or of other weights than those beside it.

    Raises:
        ValueError: says which.

    Edge cases: files from before version 0.2 do not say which weights they are of.
    """
    file, weights = release / STATEMENT, release / WEIGHTS
    noted = read_statement(file).get(WEIGHTS_HASH)
    if noted and noted != hash_of(weights):
        raise ValueError(
            f"{file} is not of the weights in {weights}: what it says of privacy holds for others; restore both from "
            "one release"
        )

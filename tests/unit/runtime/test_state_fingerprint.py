"""A state's fingerprint: the same after a file, another for everything that differs."""

import copy

import torch

from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.runtime.state_fingerprint import fingerprint_of_state

STATE = {
    "model": {"weight": torch.arange(6.0).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)},
    "count": torch.tensor(3),
    "none": None,
    "entries": [{"noise": 2.0, "charge_id": "a"}, ("b", True)],
}


def changed(*path, to):
    state = copy.deepcopy(STATE)
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return state


def test_a_file_keeps_it(tmp_path):
    save_atomic(STATE, tmp_path / "a.pt")
    assert fingerprint_of_state(load(tmp_path / "a.pt")) == fingerprint_of_state(STATE)
    assert fingerprint_of_state(changed("entries", 1, to=["b", True])) == fingerprint_of_state(STATE)
    strided = torch.arange(6.0).view(2, 3).t().contiguous().t()
    assert fingerprint_of_state(changed("model", "weight", to=strided)) == fingerprint_of_state(STATE)


def test_every_difference_is_another_one():
    weight = torch.arange(6.0).view(2, 3)
    states = [
        STATE,
        changed("model", "weight", to=weight.nextafter(torch.tensor(9.0))),
        changed("model", "weight", to=weight.view(3, 2)),
        changed("model", "weight", to=weight.double()),
        changed("model", "weight", to=weight.tolist()),
        changed("model", "more", to=weight),
        changed("model", "half", to=torch.zeros(3, dtype=torch.bfloat16)),
        changed("count", to=torch.tensor(4)),
        changed("count", to=3),
        changed("none", to="None"),
        changed("entries", 0, "charge_id", to="b"),
        changed("entries", 0, "noise", to=2.5),
        changed("entries", to=[{"noise": 2.0, "charge_id": "a"}, "b", True]),
        changed("entries", to=[{"noise": 2.0}, ("charge_id", "a"), ("b", True)]),
    ]
    assert len({fingerprint_of_state(state) for state in states}) == len(states)

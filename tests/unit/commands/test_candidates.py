import pytest

from dpsad.commands.candidates import candidates_of
from dpsad.commands.read import read_config


def candidates(*tries, base=()):
    return candidates_of(tries, lambda changes: read_config("digits", [*base, *changes]))


def test_every_combination_is_a_candidate_once():
    found = candidates("teacher.steps=10,20,10", "prototypes.rounds=[1,2],[2,2]")
    assert [candidate.name for candidate in found] == [
        "teacher.steps=10, prototypes.rounds=[1,2]",
        "teacher.steps=10, prototypes.rounds=[2,2]",
        "teacher.steps=20, prototypes.rounds=[1,2]",
        "teacher.steps=20, prototypes.rounds=[2,2]",
    ]
    assert [candidate.config.teacher.steps for candidate in found] == [10, 10, 20, 20]
    assert [tuple(candidate.config.prototypes.rounds) for candidate in found[:2]] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("tries", "base", "message"),
    [
        ((), (), "nothing to choose among; pass --try"),
        (("teacher.steps=10",), (), "nothing to choose among"),
        (("teacher.steps",), (), "has no '='; write --try teacher.steps=VALUE,VALUE"),
        (("teacher.step=1,2",), (), "unknown key 'teacher.step'"),
        (("privacy.split=0.1,0.2",), (), "privacy is one for all candidates"),
        (("data.limit=100,200",), (), "data is one for all candidates"),
        (("run=a,b",), (), "run is one for all candidates"),
        (("teacher.steps=1,2",), ("privacy.epsilon=inf",), "no budget to pay for a choice"),
        (("teacher.steps=1,2",), ("guarantee=nominal", "teacher.data=private"), "no budget to pay for a choice"),
        (("teacher.steps=1,2",), ("teacher.path=t.pt",), "leave teacher.path out"),
        (("student.use_labels=true,false",), (), "needs their classes; use student.use_labels=true"),
    ],
)
def test_what_cannot_be_repeated_scored_or_paid_for_is_refused(tries, base, message):
    with pytest.raises(ValueError, match=message):
        candidates(*tries, base=base)

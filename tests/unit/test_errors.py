import pytest

from dpsad.errors import reading, require_choice
from dpsad.privacy.ledger import BudgetExceeded, ChargeRefused


def test_a_slip_is_answered_with_the_nearest_choice():
    options = ("sketch", "private", "public")
    require_choice("teacher.data", "sketch", options)
    with pytest.raises(ValueError, match="skecth") as caught:
        require_choice("teacher.data", "skecth", options)
    assert str(caught.value) == ("teacher.data='skecth' must be one of sketch, private, public; did you mean 'sketch'?")


def test_a_far_word_is_answered_without_a_guess():
    with pytest.raises(ValueError, match=r"must be one of a, b$"):
        require_choice("kind", "zzz", ("a", "b"))


def test_a_budget_is_no_damage_of_the_file_that_its_charges_stand_in(tmp_path):
    with pytest.raises(BudgetExceeded, match=r"^over the budget$"), reading(tmp_path, refused=ChargeRefused):
        raise BudgetExceeded("over the budget")
    with pytest.raises(ValueError, match="is damaged"), reading(tmp_path, refused=ChargeRefused):
        raise ValueError("no such plan")

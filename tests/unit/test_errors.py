import math

import pytest

from dpsad.errors import require_choice, require_positive


def test_a_slip_is_answered_with_the_nearest_choice():
    options = ("sketch", "private", "public")
    require_choice("teacher.data", "sketch", options)
    with pytest.raises(ValueError, match="skecth") as caught:
        require_choice("teacher.data", "skecth", options)
    assert str(caught.value) == ("teacher.data='skecth' must be one of sketch, private, public; did you mean 'sketch'?")


def test_a_far_word_is_answered_without_a_guess():
    with pytest.raises(ValueError, match=r"must be one of a, b$"):
        require_choice("kind", "zzz", ("a", "b"))


@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_what_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match=f"privacy.epsilon={value} must be positive"):
        require_positive("privacy.epsilon", value)


@pytest.mark.parametrize("value", [1e-30, math.inf])
def test_what_is_positive_passes(value):
    require_positive("privacy.epsilon", value)

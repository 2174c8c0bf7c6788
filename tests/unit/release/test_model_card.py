import pytest

from dpsad.release.model_card import model_card
from dpsad.release.students import ReleaseConfig

CONFIG = ReleaseConfig(image_shape=(1, 8, 8), class_names=("a", "b"))
FORMAL = {
    "method": "dpdm", "guarantee": "records", "formal": True, "epsilon": 2.5, "delta": 1e-5, "reasons": [],
    "not_covered": ["the choice of hyperparameters"],
}  # fmt: skip


def test_a_formal_card_has_the_statement_s_numbers_and_what_they_do_not_cover():
    card = model_card(CONFIG, FORMAL)
    assert "Formally private: epsilon = 2.5, delta = 1e-05" in card
    assert "- the choice of hyperparameters" in card


@pytest.mark.parametrize("epsilon", [2.5, None])
def test_a_card_of_what_is_not_formal_claims_nothing_and_says_why(epsilon):
    card = model_card(CONFIG, {**FORMAL, "formal": False, "epsilon": epsilon, "reasons": ["a seed was set"]})
    assert "**NOT formally private.**" in card
    assert "- a seed was set" in card
    assert "epsilon = 2.5" not in card
    nominal = model_card(CONFIG, {**FORMAL, "formal": False, "epsilon": None, "nominal_epsilon": 3.0})
    assert "Its nominal epsilon, as published, is 3." in nominal

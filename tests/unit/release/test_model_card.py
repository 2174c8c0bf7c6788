from dataclasses import replace

import pytest
import yaml

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


@pytest.mark.parametrize("name", ["---", "a\n---\nlicense: mit", "- [", '"', "{{", ": #", "\u2028---", "\x85---\n"])
@pytest.mark.parametrize("formal", [True, False])
def test_a_card_begins_with_yaml_that_no_name_breaks(name, formal):
    card = model_card(
        replace(CONFIG, class_names=(name, "b")), {**FORMAL, "formal": formal, "method": "a: b", "reasons": ["r"]}
    )
    nothing, block, body = card.split("---\n", 2)
    metadata = yaml.safe_load(block)
    assert nothing == ""
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("dpsad", "unconditional-image-generation")
    assert "a: b" in metadata["tags"]
    assert ("differential-privacy" in metadata["tags"]) is formal, "what is not formal is not found as if it were"
    assert "license" not in metadata, "a license is not made up"
    assert body.startswith("\n# Image generator")
    assert "---" not in body.splitlines()


def test_a_card_says_how_to_load_it_in_two_lines():
    code = model_card(CONFIG, FORMAL).split("```python\n")[1].split("```")[0]
    assert [line for line in code.splitlines() if line][:2] == [
        "import dpsad",
        'student = dpsad.Student.from_pretrained("release")',
    ]

import pytest

from dpsad.privacy.provenance import Provenance, PublicImages, require_released
from dpsad.runtime.checkpoint import load, save_atomic


@pytest.mark.parametrize("provenance", [Provenance.PUBLIC, Provenance.RELEASED])
def test_public_and_released_models_may_enter(provenance):
    require_released("the teacher", provenance, "a record's row")


@pytest.mark.parametrize("provenance", [Provenance.PRIVATE, Provenance("private")])
def test_a_private_model_is_refused_with_what_where_and_the_mend(provenance):
    with pytest.raises(
        ValueError, match=r"the teacher has provenance 'private' .*a record's row.*teacher\.data=prototypes"
    ):
        require_released("the teacher", provenance, "a record's row")


def test_names_are_what_files_hold():
    """Saved teachers name their provenance so; a renamed member would not load."""
    assert [provenance.value for provenance in Provenance] == ["public", "released", "private"]


@pytest.mark.parametrize("hashes", [None, b"", b"eight by"])
def test_noted_images_come_back_from_a_file(tmp_path, hashes):
    """Also where all public images are of one level each, and so have no hash."""
    noted = PublicImages((3, 4), hashes)
    save_atomic({"noted": noted.state_dict()}, tmp_path / "file.pt")
    assert PublicImages.from_dict(load(tmp_path / "file.pt")["noted"]) == noted

"""What a refusal takes back, and what it leaves."""

import pytest

from dpsad.api.config import Config
from dpsad.runtime.run_folder import Run, open_run
from dpsad.runtime.untouched import first_missing, untouched_if_refused


def refused(run, meanwhile=lambda: None):
    def opened():
        with untouched_if_refused(run, first_missing(run)):
            open_run(run.path, Config())
            meanwhile()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        opened()


def test_folders_that_were_made_go_again(tmp_path):
    (tmp_path / "there").mkdir()
    for path in ("a/b/run", "run", "there"):
        refused(Run(tmp_path / path))
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_run_that_another_process_began_beside_it_meanwhile_stays(tmp_path):
    other = tmp_path / "runs" / "other"
    refused(Run(tmp_path / "runs" / "mine"), lambda: open_run(other, Config()))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]
    assert (other / "config.yaml").exists()

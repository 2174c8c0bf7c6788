"""A device that is not here is refused before anything is read, drawn or charged."""

import pytest
import torch

VERBS = [
    "sketch --config digits",
    "teach --config digits",
    "distill --config digits",
    "distill --config mnist-nominal",
    "baseline --config digits-class-means",
    "tune --config digits --try teacher.steps=1,2",
    "ablate lambda --config mnist-nominal",
    "quickstart",
]


@pytest.fixture
def nothing_is_read(monkeypatch):
    def reading(*_, **__):
        pytest.fail("records were read")

    for place in ("dpsad.api.launch.load_images", "dpsad.commands.auto.survey"):
        monkeypatch.setattr(place, reading)


@pytest.mark.parametrize("there", [0, 2])
@pytest.mark.parametrize("verb", VERBS)
def test_a_device_that_is_not_here_is_refused_first(command, nothing_is_read, monkeypatch, tmp_path, verb, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    code, printed = command(*verb.split(), f"run={tmp_path / 'run'}", "device=cuda:7")
    assert code == 2
    assert "device='cuda:7'" in printed
    assert ("cuda:0, cuda:1" if there else "only cpu") in printed
    assert not (tmp_path / "run").exists()


def test_auto_looks_at_the_device_before_the_images(command, nothing_is_read, tmp_path):
    (tmp_path / "images").mkdir()
    code, printed = command("auto", tmp_path / "images", f"run={tmp_path / 'run'}", "device=cuda:7")
    assert code == 2
    assert "device='cuda:7'" in printed

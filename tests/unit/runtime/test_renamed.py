"""Names of earlier versions stay readable: keys, values, presets, and what files hold."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

from dpsad.api.config import Config
from dpsad.commands.read import read_config
from dpsad.evaluation.result import EvaluationResult
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.config_files import load_config
from students.prototypes import Prototypes

OLD = """
method: distillation
guarantee: records
sketch: {prototypes: [1, 2], rounds: [1, 1], shares: [0.5, 0.5], max_pull: 0.3}
teacher: {data: sketch, half_life: 77}
published: {max_norm: 3.0}
refine: {draws: 5, max_norm: 0.7, half_life: 4}
baseline: {draws: 6, half_life: 50}
shards: {max_pull: 0.2, critic_channels: 9}
gs_wgan: {max_norm: 0.6}
"""
# a plan as version 0.1 kept it, beside its purpose
OLD_PLAN = {
    "unit": "record",
    "max_norm": 0.5,
    "noise_multiplier": 2.0,
    "sampling_prob": 0.1,
    "num_releases": 3,
}


@dataclass(frozen=True)
class Inner:
    RENAMED_KEYS: ClassVar[dict[str, str]] = {"width": "channels"}
    RENAMED_VALUES: ClassVar[dict[str, dict[str, str]]] = {"kind": {"dull": "plain"}}
    channels: int = 1
    kind: str = "plain"


@dataclass(frozen=True)
class Outer:
    RENAMED_KEYS: ClassVar[dict[str, str]] = {"net": "network"}
    network: Inner = field(default_factory=Inner)


@pytest.mark.parametrize("section", ["net", "network"])
@pytest.mark.parametrize("key", ["width", "channels"])
def test_old_names_of_sections_and_keys_are_read_in_any_mixture(tmp_path, section, key):
    (tmp_path / "a.yaml").write_text(f"{section}: {{{key}: 5, kind: dull}}", encoding="utf-8")
    expected = Outer(Inner(5, "plain"))
    assert load_config(Outer, base=tmp_path / "a.yaml", overrides=()) == expected
    notes = []
    told = [f"{section}.{key}=5", "network.kind=dull"]
    assert load_config(Outer, base=None, overrides=told, note=notes.append) == expected
    assert "note: network.kind=dull is called network.kind=plain now" in notes
    assert len(notes) == 1 + ((section, key) != ("network", "channels"))


def test_a_config_of_version_0_1_means_what_it_meant(tmp_path):
    (tmp_path / "old.yaml").write_text(OLD, encoding="utf-8")
    config = load_config(Config, base=tmp_path / "old.yaml", overrides=())
    assert (config.method, config.teacher.data, config.teacher.ema_half_life_images) == ("dp-sad", "prototypes", 77)
    assert (config.prototypes.per_class, config.prototypes.clip_rms) == ((1, 2), 0.3)
    assert (config.refine.noise_multiplicity, config.refine.clip_norm, config.refine.ema_half_life_steps) == (5, 0.7, 4)
    assert (config.baseline.noise_multiplicity, config.baseline.ema_half_life_steps) == (6, 50)
    assert (config.nominal.clip_norm, config.gs_wgan.clip_norm) == (3.0, 0.6)
    assert (config.shards.clip_rms, config.shards.discriminator_channels) == (0.2, 9)


def test_the_command_line_notes_what_is_out_of_date(capsys):
    config = read_config("mnist-published", ["guarantee=published", "published.max_norm=2"])
    assert (config.guarantee, config.nominal.clip_norm) == ("nominal", 2.0)
    noted = capsys.readouterr().err
    assert "guarantee=published is called guarantee=nominal now" in noted
    assert "published.max_norm=2 is called nominal.clip_norm=2 now" in noted


def test_ledgers_and_plans_of_version_0_1_are_taken_up():
    plan = ReleasePlan(
        purpose="refine", unit=Unit.RECORD, clip_norm=0.5, noise_multiplier=2.0, sampling_prob=0.1, num_releases=3
    )
    state = {"epsilon": 9.0, "delta": 1e-5, "entries": [["refine", OLD_PLAN]], "fixed_noise": False}
    ledger = Ledger(1.0, 1e-3)
    ledger.load_state_dict(state)
    assert ledger.entries == [plan]
    other = Ledger(9.0, 1e-5)
    other.take_over(state)
    assert other.entries == [plan]
    sanitizer = Sanitizer(plan, Ledger(9.0, 1e-5), PrivateRandomness(seed=0))
    sanitizer.load_state_dict({"ledger": state, "plan": OLD_PLAN, "charged": True, "num_made": 2})
    assert (sanitizer.charged, sanitizer.num_made, sanitizer.ledger.entries) == (True, 2, [plan])
    with pytest.raises(ValueError, match="refine was begun as"):
        sanitizer.load_state_dict(
            {"ledger": state, "plan": {**OLD_PLAN, "max_norm": 0.4}, "charged": True, "num_made": 2}
        )


def test_prototypes_of_version_0_1_are_released():
    state = {"images": torch.zeros(1, 1, 2, 2), "labels": torch.zeros(1).long(), "counts": torch.ones(1)}
    assert Prototypes.from_dict({**state, "min_count": 3.0}).provenance is Provenance.RELEASED
    kept = Prototypes.from_dict({**state, "min_count": 3.0, "provenance": "private"})
    assert kept.provenance is Provenance.PRIVATE
    assert Prototypes.from_dict(kept.state_dict()).provenance is Provenance.PRIVATE


def test_an_evaluation_of_version_0_1_is_read():
    student = {"num_images": 5, "classifiers": {"cnn": {"accuracy": 0.5}}, "frechet": 2.0, "num_frechet_images": 4}
    features = {"name": "reference-cnn", "fingerprint": "0"}
    result = EvaluationResult.from_dict({"student": student, "features": features, "unknown": 1})
    assert (result.student.classifiers["cnn"].accuracy, result.real, result.features.name) == (
        0.5,
        None,
        "reference-cnn",
    )

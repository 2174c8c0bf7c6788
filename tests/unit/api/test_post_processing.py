"""All that a run hands out is a function of its releases: with those fixed, other records change not a byte of it.

Every method is trained twice, on records that differ in number, pixels and labels, with a sanitizer that looks at the
rows, charges, and releases the same noise whatever they are. What can be shared afterwards must be the same: the whole
release folder, the public metrics, and what was said but for seconds. A private count in a divisor, a class count
beside the released one, a step left out because nobody joined it, a batch's size in a log: each is a difference here.
"""

import json
import math
import re
from dataclasses import replace

import pytest
import torch

import dpsad
from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.sanitizer import Sanitizer

DENOISER = {"network.channels": 8, "network.multipliers": [1], "sampler.steps": 2}
BASELINE = {**DENOISER, "baseline.steps": 3, "baseline.batch_size": 20, "baseline.noise_multiplicity": 2}
PRETRAINED = {**BASELINE, "pretrain.steps": 2, "pretrain.batch_size": 8}
FETA = {**BASELINE, "dp_feta.steps": 2, "dp_feta.batch_size": 8, "dp_feta.central_images": 2}
DP_SAD = {
    **DENOISER, "prototypes.per_class": [1, 2], "prototypes.rounds": [1, 2], "prototypes.shares": [0.4, 0.6],
    "teacher.steps": 2, "student.steps": 2, "refine.steps": 3, "refine.batch_size": 20,
}  # fmt: skip
SHARDS = {
    **DP_SAD, "guarantee": "shards", "shards.num_shards": 12, "shards.queries": 2, "shards.levels": [1.0, 0.5],
    "shards.sampling_prob": 0.5, "shards.steps": 2, "shards.batch_size": 2, "shards.adversarial_weight": 0.5,
}  # fmt: skip
RUNS = {
    "dp-sad": {**DP_SAD, "sampler.start": "prototypes", "sampler.sigma_max": 1.0},  # and so releases those, too
    "dp-sad, spread": {
        **DP_SAD, "sampler.start": "prototypes", "sampler.sigma_max": 1.0, "spread.share": 0.5, "spread.per_class": 2,
        "spread.frequencies": 10, "spread.directions": 4,
    },
    "dp-sad, guide": {**DP_SAD, "guide.share": 0.2, "guide.steps": 3, "guide.images": 30, "guide.directions": 10},
    "dp-sad, matched": {
        **DP_SAD, "guide.share": 0.2, "guide.steps": 3, "guide.images": 30, "guide.directions": 10,
        "guide.relabel": True, "matching.share": 0.1, "shorten.steps": 2, "shorten.images": 30,
    },
    "dp-sad, shortened": {**DP_SAD, "shorten.steps": 2, "shorten.images": 30},
    "dp-sad, shards": SHARDS,
    "dp-sad, shards' denoisers": {**SHARDS, "shards.teacher": "denoisers"},
    "dpdm": BASELINE,
    "dp-diffusion": {**PRETRAINED, "augmentation.shift": 0.1},
    "dp-ldm": {
        **PRETRAINED, "network.attention": True, "compress.steps": 2, "autoencoder.channels": 4, "autoencoder.patch": 1,
    },
    "dp-merf": {"dp_merf.num_features": 40, "dp_merf.step_features": 20, "dp_merf.steps": 2},
    "dp-kernel": {
        "dp_kernel.rounds": 2, "dp_kernel.landmarks": 3, "dp_kernel.steps": 2, "dp_kernel.generator.channels": 4,
    },
    "gs-wgan": {
        "gs_wgan.num_shards": 12, "gs_wgan.shards_per_step": 2, "gs_wgan.steps": 3, "gs_wgan.batch_size": 4,
        "gs_wgan.critic_batch_size": 2, "gs_wgan.critic_steps": 1, "gs_wgan.warm_steps": 1,
        "gs_wgan.generator.channels": 4,
    },
    "privimage": {**PRETRAINED, "privimage.classifier_epochs": 1},
    "dp-feta": FETA,
    "feta-pro": {
        **FETA, "feta_pro.steps": 2, "feta_pro.batch_size": 8, "dp_merf.num_features": 40, "dp_merf.step_features": 20,
        "dp_merf.steps": 2,
    },
    "private-evolution": {
        **DENOISER, "pretrain.steps": 2, "pretrain.batch_size": 8, "private_evolution.rounds": 2,
        "private_evolution.population": 3, "private_evolution.variation_steps": 1,
    },
    "class-means": {},
}  # fmt: skip


def fixed_release(self, chunks, shape):
    """What `Sanitizer.release` does around the sum, and noise in place of it: the same in every run."""
    self.charge()
    assert self.num_made < self.plan.num_releases
    for rows in chunks:
        del rows
    self.num_made += 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(self.num_made))


def shared(records, name, run, said):
    """Everything that a run on these records shows to others, by name; an endless budget needs no accounting."""
    public = replace(load_images(DataConfig(), "test").take(torch.arange(40)), provenance=Provenance.PUBLIC)
    settings = {"privacy.num_records": 100, **RUNS[name]}
    guarantee = settings.pop("guarantee", None)
    method = name.split(",")[0]
    dpsad.train(
        records, method=method, guarantee=guarantee, settings=settings, public=public, run=run, say=said.append,
        epsilon=math.inf, device="cpu",
    )  # fmt: skip
    paths = [path for path in run.rglob("*") if path.is_file() and run / "private" not in path.parents]
    files = {str(path.relative_to(run)): path.read_bytes() for path in paths}
    assert {"release/student.safetensors", "release/privacy.json", "release/samples.png"} <= files.keys()
    del files["config.yaml"]  # what the run was told, its own folder among it
    statement = json.loads(files["release/privacy.json"])
    statement["events"] = [{**event, "charge_id": "random"} for event in statement["events"]]
    files["release/privacy.json"] = json.dumps(statement).encode()
    lines = [re.sub(r"in \d+(\.\d+)? s\b", "in some s", line.replace(str(run), "run")) for line in said]
    return {**files, "said": "\n".join(lines)}


@pytest.mark.parametrize("name", RUNS)
def test_with_the_same_releases_other_records_change_nothing_that_is_shared(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Sanitizer, "release", fixed_release)
    records = load_images(DataConfig(), "train")
    one = records.take(torch.arange(100))
    other = records.take(torch.arange(100, 230))
    other = replace(other, images=-other.images, labels=other.labels.roll(1))
    before = shared(one, name, tmp_path / "one", [])
    after = shared(other, name, tmp_path / "other", [])
    assert before.keys() == after.keys()
    assert [key for key in before if before[key] != after[key]] == []

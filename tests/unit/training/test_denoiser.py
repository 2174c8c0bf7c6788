import json

import torch

from dpsad.privacy.provenance import Provenance
from dpsad.training.batches import Batches
from dpsad.training.denoiser import train_denoiser


class Fifty:
    """Settings of as many steps as lie between two lines of the log."""

    steps, batch_size, learning_rate, ema_half_life_images, label_dropout = 50, 2, 1e-3, 100.0, 0.0


def test_what_it_measures_on_images_stays_private(context, make_denoiser):
    train_denoiser(
        "teach",
        Fifty(),
        denoiser=make_denoiser(channels=4, multipliers=(1,)),
        num_classes=3,
        batches=Batches(Provenance.PRIVATE, lambda num, rng: (torch.zeros(num, 1, 4, 4), torch.zeros(num).long())),
        levels=lambda uniform: uniform.float() + 0.1,
        rng=context.rng("teach"),
        checkpoint=context.checkpoint("teach"),
        log=context.log("teach"),
    )
    (line,) = (context.run.private / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["teacher_loss"] > 0
    assert not (context.run.path / "metrics.jsonl").exists()

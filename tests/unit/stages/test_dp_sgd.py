import math

import pytest
import torch

from dpsad.checkpoint import Checkpoint
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import denoising_loss
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.per_example import trainable_parameters
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.rows import PartedRows
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runs import Log, open_run
from dpsad.stages.dp_sgd import denoising_rows, dp_sgd
from dpsad.stages.fit import BaselineConfig


def levels(uniform):
    return (0.1 + 3 * uniform).float()


def rows_of(denoiser, seed=0, **settings):
    settings = {"draws": 3, "label_dropout": 0.0, "no_label": 3, "precision": "float32", **settings}
    return denoising_rows(denoiser, levels=levels, randomness=PrivateRandomness(seed=seed), **settings)


def test_a_row_is_the_gradient_of_the_mean_loss_over_its_draws(make_denoiser, generator):
    """Compared with a backward pass a record, on the draws as the same seed gives them."""
    denoiser, images, labels = make_denoiser(), torch.randn(2, 1, 6, 6, generator=generator), torch.tensor([2, 0])
    rows = torch.cat(rows_of(denoiser)(images, labels).parts, dim=1)
    randomness = PrivateRandomness(seed=0)
    randomness.uniform(2)
    sigma, noise = levels(randomness.uniform(6)).reshape(3, 2), randomness.normal((3, 2, 1, 6, 6))
    for index in range(2):
        loss = torch.stack(
            [
                denoising_loss(
                    denoiser, images[[index]], sigma[draw, [index]], noise[draw, [index]], labels[[index]]
                ).sum()
                for draw in range(3)
            ]
        ).mean()
        expected = torch.cat([part.flatten() for part in torch.autograd.grad(loss, trainable_parameters(denoiser))])
        assert (rows[index] - expected).norm() < 1e-5 * expected.norm()


def test_labels_are_dropped_record_by_record_with_the_given_probability(make_denoiser):
    """All draws of a record agree. Two-sided at 5 standard errors; false alarm 6e-7."""
    denoiser, heard = make_denoiser(channels=4, multipliers=(1,)), []
    denoiser.network.register_forward_hook(lambda module, args, out: heard.append(args[2]))
    labels = torch.arange(1200) % 3
    rows_of(denoiser, draws=2, label_dropout=0.2)(torch.zeros(1200, 1, 2, 2), labels)
    first, second = heard[0].reshape(2, 1200)
    assert torch.equal(first, second)
    assert ((first == labels) | (first == 3)).all()
    assert (first == 3).double().mean().item() == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 1200) ** 0.5)


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_a_step_is_adam_on_the_released_sum_over_the_expected_batch(tmp_path, generator, chunk_size):
    """Nearly noiseless, everyone joins: each weight moves by the learning rate against the sign of the clipped sum."""
    model = torch.nn.Linear(5, 1, bias=False)
    images = torch.randn(20, 1, 1, 5, generator=generator)
    records = ImageSet(images=images, labels=torch.zeros(20).long(), ids=tuple(map(str, range(20))), class_names=("a",))
    before, seen = model.weight.detach().clone(), []

    def rows(chunk, labels):
        seen.append(len(chunk))
        return PartedRows([chunk.flatten(1)])

    plan = ReleasePlan(unit=Unit.RECORD, max_norm=1.0, noise_multiplier=1e-6, num_releases=1)
    averaged = dp_sgd(
        "test",
        model=model,
        rows=rows,
        records=records,
        sanitizer=Sanitizer(plan, Ledger(math.inf, 1e-5), "test", PrivateRandomness(seed=0)),
        expected_batch_size=20.0,
        learning_rate=0.1,
        half_life=1e-3,
        chunk_size=chunk_size,
        randomness=PrivateRandomness(seed=0),
        checkpoint=Checkpoint(tmp_path / "checkpoint"),
        log=Log(open_run(tmp_path / "run", BaselineConfig(), ()), "test"),
    )
    clipped = images.flatten(1) / images.flatten(1).norm(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(model.weight, before - 0.1 * clipped.sum(0).sign(), rtol=0, atol=1e-4)
    torch.testing.assert_close(averaged.weight, model.weight)
    assert max(seen) <= chunk_size
    assert sum(seen) == 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parameterisation": "edn"}, "did you mean 'edm'"),
        ({"draws": 0}, "baseline.draws=0 must be positive"),
        ({"label_dropout": 1.0}, r"baseline.label_dropout=1.0 must be in \[0, 1\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        BaselineConfig(**wrong)

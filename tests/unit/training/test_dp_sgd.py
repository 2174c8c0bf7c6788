import json
import math

import pytest
import torch

from dpsad.data.augmentation import AugmentationConfig, variation_size, vary
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import denoising_loss
from dpsad.diffusion.noise_levels import linear_schedule_levels
from dpsad.methods.dp_sgd_denoiser import BaselineConfig, baseline_levels, timestep_levels
from dpsad.privacy.clipping import PartedRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.per_example_gradients import trainable_parameters
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint, load
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run
from dpsad.training.dp_sgd import denoising_rows, dp_sgd
from dpsad.training.private_denoiser import record_views


def levels(uniform):
    return (0.1 + 3 * uniform).float()


def rows_of(denoiser, seed=0, **settings):
    settings = {"noise_multiplicity": 3, "label_dropout": 0.0, "no_label": 3, "precision": "float32", **settings}
    return denoising_rows(denoiser, levels=levels, randomness=PrivateRandomness(seed=seed), **settings)


def test_a_row_is_the_gradient_of_the_mean_loss_over_its_draws(make_denoiser, rng):
    """Compared with a backward pass a record, on the draws as the same seed gives them."""
    denoiser, images, labels = make_denoiser(), torch.randn(2, 1, 6, 6, generator=rng), torch.tensor([2, 0])
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
    rows_of(denoiser, noise_multiplicity=2, label_dropout=0.2)(torch.zeros(1200, 1, 2, 2), labels)
    first, second = heard[0].reshape(2, 1200)
    assert torch.equal(first, second)
    assert ((first == labels) | (first == 3)).all()
    assert (first == 3).double().mean().item() == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 1200) ** 0.5)


def test_a_row_is_the_gradient_of_the_mean_loss_over_its_views(make_denoiser, rng):
    """A loop over records and draws, each with its own view, noise level and noise; one backward pass each."""
    augmentation = AugmentationConfig(flip=True, shift=0.2, rotation=30.0)
    denoiser, images, labels = make_denoiser(), torch.randn(2, 1, 6, 6, generator=rng), torch.tensor([2, 0])
    rows = torch.cat(rows_of(denoiser, vary=record_views(augmentation))(images, labels).parts, dim=1)
    randomness = PrivateRandomness(seed=0)
    randomness.uniform(2)
    normals = randomness.normal((6, variation_size(images, augmentation))).reshape(3, 2, -1)
    sigma, noise = levels(randomness.uniform(6)).reshape(3, 2), randomness.normal((3, 2, 1, 6, 6))
    views = []
    for index in range(2):
        expected = torch.zeros_like(rows[0])
        for draw in range(3):
            view = vary(images[[index]], augmentation, normals[draw, [index]])
            views.append(view)
            loss = denoising_loss(denoiser, view, sigma[draw, [index]], noise[draw, [index]], labels[[index]])
            gradients = torch.autograd.grad(loss.sum(), trainable_parameters(denoiser))
            expected += torch.cat([part.flatten() for part in gradients]) / 3
        assert (rows[index] - expected).norm() < 1e-5 * expected.norm()
    assert not torch.equal(views[0], views[1]), "each draw has a view of its own"
    plain = torch.cat(rows_of(denoiser)(images, labels).parts, dim=1)
    assert (plain - rows).norm() > 0.05 * rows.norm()


def test_a_record_is_viewed_through_geometry_alone():
    with pytest.raises(ValueError, match=r"set augmentation.sharpness, gamma, contrast and noise to 0"):
        record_views(AugmentationConfig(noise=0.1))


def test_timesteps_are_those_of_the_linear_chain():
    """Levels drawn for steps a..b of a chain of 1,000 lie between the chain's own levels there, in the given shares."""
    chain = linear_schedule_levels(1000)
    settings = BaselineConfig(timesteps=(0, 30, 600, 1000), timestep_weights=(0.1, 0.7, 0.2))
    drawn = timestep_levels(settings)(torch.linspace(0, 1, 10_002, dtype=torch.float64)[1:-1])
    edges = torch.tensor([0.0, chain[29], chain[599], 1.01 * chain[999]])
    shares = torch.histogram(drawn, edges).hist / len(drawn)
    assert shares.tolist() == pytest.approx([0.1, 0.7, 0.2], abs=4e-3)
    # the middle of the middle range is step 315
    assert drawn[len(drawn) * 45 // 100].item() == pytest.approx(chain[314].item(), rel=5e-3)
    assert torch.equal(
        timestep_levels(BaselineConfig())(torch.tensor([0.3])),
        baseline_levels(BaselineConfig())(torch.tensor([0.3])),
    )


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_a_step_is_adam_on_the_released_sum_over_the_expected_batch(tmp_path, rng, chunk_size):
    """Nearly noiseless, everyone joins: each weight moves by the learning rate against the sign of the clipped sum."""
    model = torch.nn.Linear(5, 1, bias=False)
    images = torch.randn(20, 1, 1, 5, generator=rng)
    records = ImageSet(images=images, labels=torch.zeros(20).long(), ids=tuple(map(str, range(20))), class_names=("a",))
    before, seen = model.weight.detach().clone(), []

    def rows(chunk, labels):
        seen.append(len(chunk))
        return PartedRows([chunk.flatten(1)])

    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=1e-6, num_releases=1)
    averaged = dp_sgd(
        "test",
        model=model,
        rows=rows,
        records=records,
        sanitizer=Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0)),
        expected_batch_size=20.0,
        learning_rate=0.1,
        ema_half_life_steps=1e-3,
        chunk_size=chunk_size,
        randomness=PrivateRandomness(seed=0),
        checkpoint=Checkpoint(tmp_path / "checkpoint"),
        log=Log(open_run(tmp_path / "run", BaselineConfig()), "test"),
    )
    clipped = images.flatten(1) / images.flatten(1).norm(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(model.weight, before - 0.1 * clipped.sum(0).sign(), rtol=0, atol=1e-4)
    torch.testing.assert_close(averaged.weight, model.weight)
    # batches of one size, which tells nobody how many records joined
    assert set(seen) == {min(chunk_size, 20)}
    assert sum(seen) - 20 < chunk_size


class Loop:
    """`dp_sgd` in small: 40 records, the row of each a one in its own place, so that a release shows who joined it.

    Attributes:
        released: [40] for each release that was made.
        before_row: is called when rows are made.
    """

    def __init__(self, tmp_path, **plan):
        ids = tuple(map(str, range(40)))
        images = torch.eye(40).reshape(40, 1, 1, 40)
        self.records = ImageSet(images=images, labels=torch.zeros(40).long(), ids=ids, class_names=("a",))
        plan = {"purpose": "test", "unit": Unit.RECORD, "clip_norm": 1.0, "noise_multiplier": 0.0, **plan}
        self.plan, self.path = ReleasePlan(**plan), tmp_path / "checkpoint"
        self.run = open_run(tmp_path / "run", BaselineConfig())
        self.ledger, self.released, self.before_row = Ledger(math.inf, 1e-5), [], lambda: None

    def rows(self, chunk, labels):
        self.before_row()
        return PartedRows([chunk.flatten(1)])

    def train(self, *, seed=0):
        """The gradient of the last step."""
        model = torch.nn.Linear(40, 1, bias=False)
        sanitizer = Sanitizer(self.plan, self.ledger, PrivateRandomness(seed=1))
        release = sanitizer.release
        sanitizer.release = lambda *args: self.released.append(release(*args)) or self.released[-1]
        dp_sgd(
            "test",
            model=model,
            rows=self.rows,
            records=self.records,
            sanitizer=sanitizer,
            expected_batch_size=self.plan.sampling_prob * 40,
            learning_rate=0.1,
            ema_half_life_steps=1.0,
            chunk_size=100,
            randomness=PrivateRandomness(seed=seed),
            checkpoint=Checkpoint(self.path, every_seconds=0),
            log=Log(self.run, "test"),
        )
        return model.weight.grad[0]


def test_a_step_divides_by_the_expected_size_and_not_by_how_many_joined(tmp_path):
    loop = Loop(tmp_path, sampling_prob=0.5)
    gradient = loop.train(seed=3)
    joined = loop.released[0] > 0.5
    assert joined.sum() not in (0, 20)
    torch.testing.assert_close(gradient, joined / 20, rtol=0, atol=1e-5)


def test_every_record_joins_a_step_by_a_secret_draw_of_its_own_with_the_planned_probability(tmp_path):
    """The very draws of the secret generator; their distribution has tests of its own."""
    loop = Loop(tmp_path, sampling_prob=0.02, num_releases=30)
    loop.train(seed=5)
    secret = PrivateRandomness(seed=5)
    expected = [poisson_sample(40, 0.02, secret).tolist() for _ in range(30)]
    assert {0, 1, 2} <= {len(joined) for joined in expected}, "of no fixed size"
    assert [(released > 0.5).nonzero().flatten().tolist() for released in loop.released] == expected


def test_a_step_that_nobody_joins_is_released_as_noise(tmp_path):
    """Left out, the number of steps in the log would tell that a batch was empty."""
    loop = Loop(tmp_path, sampling_prob=1e-9, num_releases=4, noise_multiplier=1.0)
    assert loop.train().norm() > 0
    assert len(loop.released) == 4
    lines = [json.loads(line) for line in (loop.run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["released_norm"] > 0 for line in lines)


def test_the_charge_is_on_disk_before_a_row_is_made(tmp_path):
    """A crash in the first step must not forget it."""
    loop, charges = Loop(tmp_path, num_releases=2), []
    loop.before_row = lambda: charges.append(load(loop.path)["parts"]["sanitizer"]["ledger"]["entries"])
    loop.train()
    assert [len(entries) for entries in charges] == [1, 1]
    assert all(entries[0].items() >= loop.plan.to_dict().items() for entries in charges)


def test_a_stopped_loop_goes_on_with_the_releases_that_are_left_and_the_ledger_that_it_had(tmp_path):
    def stop():
        if len(loop.released) == 1:
            raise KeyboardInterrupt

    loop = Loop(tmp_path, num_releases=3)
    loop.before_row = stop
    with pytest.raises(KeyboardInterrupt):
        loop.train()
    loop.before_row, loop.released, loop.ledger = lambda: None, [], Ledger(1e-3, 1e-3)
    loop.train()
    assert len(loop.released) == 2
    assert loop.ledger.entries == [loop.plan]
    assert loop.ledger.epsilon == math.inf, "the budget it was charged to"


def test_a_model_that_mixes_records_is_refused_before_anything_else():
    others = ("rows", "records", "sanitizer", "expected_batch_size", "learning_rate", "chunk_size")
    settings = dict.fromkeys([*others, "ema_half_life_steps", "randomness", "checkpoint", "log"])
    with pytest.raises(ValueError, match=r"layer '0' \(BatchNorm2d\) mixes the examples of a batch"):
        dp_sgd("test", model=torch.nn.Sequential(torch.nn.BatchNorm2d(2)), **settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parameterisation": "edn"}, "did you mean 'edm'"),
        ({"noise_multiplicity": 0}, "baseline.noise_multiplicity=0 must be in"),
        ({"timesteps": (0, 10), "timestep_weights": (0.5, 0.5)}, "bounds of 1 ranges.*has 2; give one weight a range"),
        ({"timestep_weights": (1.0,)}, "bounds of 0 ranges"),
        ({"timesteps": (0, 20, 10), "timestep_weights": (0.5, 0.5)}, "must rise"),
        ({"timesteps": (0, 10), "timestep_weights": (0.9,)}, "sum to 1"),
        ({"label_dropout": 1.0}, r"baseline.label_dropout=1.0 must be in \[0, 1\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        BaselineConfig(**wrong)

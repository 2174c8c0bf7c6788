"""DP-SGD: the loop behind every stage that trains on records through per-example gradient rows."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dpsad.data.public_images import require_apart
from dpsad.data.records import ImageSet, require_own_labels
from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.diffusion.noise_levels import Levels
from dpsad.privacy.clipping import PartedRows
from dpsad.privacy.no_mixing import require_no_mixing
from dpsad.privacy.per_example_gradients import per_example_gradients, set_gradients, trainable_parameters
from dpsad.privacy.provenance import Provenance, provenance_of, public_images_of, require_released
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.log import Log
from dpsad.runtime.precision import autocast
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.training.batches import in_full_batches
from dpsad.training.ema import ExponentialMovingAverage, Model

Rows = Callable[[Tensor, Tensor], PartedRows]  # images, labels of records -> a row each, in the model's parameters
Vary = Callable[[Tensor, PrivateRandomness], Tensor]  # images of records -> a random view of each


def unvaried(images: Tensor, randomness: PrivateRandomness) -> Tensor:
    """Records as they are."""
    return images


def dp_sgd(
    stage: str,
    *,
    model: Model,
    rows: Rows,
    records: ImageSet,
    sanitizer: Sanitizer,
    expected_batch_size: float,
    learning_rate: float,
    ema_half_life_steps: float,
    chunk_size: int,
    randomness: PrivateRandomness,
    checkpoint: Checkpoint,
    log: Log,
    new_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    ranks: Ranks = ALONE,
) -> Model:
    """Trains a model by noisy, clipped gradients, as many steps as the sanitizer's plan has releases.

    Args:
        stage: names the progress bar, and the section whose learning rate this is.
        model: provenance released or public; is trained in place, on the device of `randomness`.
        rows: each record's gradient; a function of that record, secret draws and the model.
        records: the private records; where several ranks train, those that are this one's.
        sanitizer: holds the plan: one row per record that joins a step.
        expected_batch_size: public number that the noisy sum is divided by.
        learning_rate: of the optimizer, constant.
        ema_half_life_steps: of the weight average.
        chunk_size: records whose rows are held at once; no more than are expected in a step.
        randomness: secret; draws who joins. The sanitizer's own, as that of `rows`: then a step that a crash undid is
            made again as it was. Where several ranks train, `ranks.draws` of that.
        checkpoint: tracks ledger, model and optimizer in one file.
        log: the norm of the released gradient is public.
        new_optimizer: parameters and `lr` -> what takes the steps.
        ranks: those that train together; the sanitizer's.

    Returns:
        The averaged model; its provenance is released.

    Raises:
        ValueError: the model has seen records without protection, as public images too, labels are clusters of all
            records, or weights became NaN or infinite.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases; that it stops at weights that are not
    finite is, too.
    Edge cases: an empty batch is released as noise.

    Source: Abadi et al. 2016, Algorithm 1.
    """
    require_no_mixing(model)
    device = randomness.device
    require_released("the model", provenance_of(model), "a loop that clips gradients")
    require_apart("the model", public_images_of(model), records)
    require_own_labels(records)
    ema = ExponentialMovingAverage(model, half_life=ema_half_life_steps, warmup=1.0)
    optimizer = new_optimizer(model.parameters(), lr=learning_rate)
    checkpoint.track(model=model, ema=ema, optimizer=optimizer, sanitizer=sanitizer)
    checkpoint.hold(log)
    checkpoint.guard(f"{stage}.learning_rate", model=model, ema=ema, optimizer=optimizer)
    sanitizer.charge()
    size = sum(parameter.numel() for parameter in trainable_parameters(model))

    at_once = min(chunk_size, math.ceil(expected_batch_size / ranks.size))

    def chunks(images: Tensor, labels: Tensor) -> Iterator[PartedRows]:
        for num, (chunk, chunk_labels) in in_full_batches(at_once, images, labels):
            yield PartedRows([part[:num] for part in rows(chunk.to(device), chunk_labels.to(device)).parts])

    for step in progress(checkpoint, sanitizer.plan.num_releases, stage):
        ranks.new_step(randomness, sanitizer.randomness)
        joined = poisson_sample(len(records), sanitizer.plan.sampling_prob, randomness)
        released = sanitizer.release(chunks(records.images[joined], records.labels[joined]), (size,))
        set_gradients(model, released / expected_batch_size)
        optimizer.step()
        ema.update(model, 1)
        released_norm = released.norm().item() / expected_batch_size
        log.public(step=step + 1, released_norm=released_norm)
    ema.model.provenance = Provenance.RELEASED  # type: ignore[assignment]
    return ema.model


def denoising_rows(
    denoiser: Denoiser,
    *,
    noise_multiplicity: int,
    levels: Levels,
    label_dropout: float,
    no_label: int,
    randomness: PrivateRandomness,
    vary: Vary = unvaried,
    precision: str = "auto",
) -> Rows:
    """Rows for `dp_sgd`: the gradient of each record's own denoising loss, averaged over draws before the clip.

    Args:
        noise_multiplicity: draws of each record, each with its own view, noise level and noise.
        levels: which noise levels are drawn.
        label_dropout: probability that a record trains without its label, in all its draws.
        no_label: the label that says so.
        randomness: secret, on the device. Were the draws known, one record more would shift the draws of others, and
            so their rows.
        vary: random views; works image by image.

    Returns:
        images [records, chan, height, width], labels [records] -> [records, num_parameters] rows, not clipped.

    Source: Dockhorn et al. 2023, equation 6; Ghalebikesabi et al. 2023 for views; Ho and Salimans 2022, Algorithm 1 for
    the labels.
    """

    def rows(images: Tensor, labels: Tensor) -> PartedRows:
        num = len(images)
        dropped = randomness.uniform(num).to(images.device) < label_dropout
        labels = torch.where(dropped, no_label, labels).repeat(noise_multiplicity)
        images = vary(images.repeat(noise_multiplicity, 1, 1, 1), randomness)
        sigma = levels(randomness.uniform(num * noise_multiplicity)).to(images.device)
        noise = randomness.normal(tuple(images.shape))

        def losses() -> Tensor:
            with autocast(images.device, precision):
                return denoising_loss(denoiser, images, sigma, noise, labels) / noise_multiplicity

        return per_example_gradients(denoiser, losses, num)

    return rows

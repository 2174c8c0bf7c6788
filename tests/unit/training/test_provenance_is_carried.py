"""What a model has seen is computed from what went in, and checked where it meets a row or a statement."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.config import DataConfig
from dpsad.data.public_images import require_apart
from dpsad.data.sources import load_images
from dpsad.diffusion.noise_levels import linear_schedule_levels
from dpsad.methods.method import formally
from dpsad.methods.public_autoencoder import latents_of
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.statement import PUBLIC_IMAGES
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.training.batches import batches_as_they_are, batches_of_images, batches_of_prototypes
from dpsad.training.denoiser import train_denoiser
from dpsad.training.dp_sgd import denoising_rows, dp_sgd
from students.from_prototypes import StartedDenoiser
from students.latent import LatentModel
from students.prototypes import Prototypes


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(40))


class Short:
    """Settings of two steps."""

    steps, batch_size, learning_rate, ema_half_life_images, label_dropout = 2, 8, 1e-3, 100.0, 0.0


def taught(context, batches, denoiser, name):
    return train_denoiser(
        "test",
        Short(),
        denoiser=denoiser,
        num_classes=3,
        batches=batches,
        levels=lambda uniform: linear_schedule_levels(10)[(uniform * 10).long()],
        rng=context.rng("test"),
        checkpoint=context.checkpoint(name),
        log=context.log("test"),
    )


def prototypes_of(provenance):
    images = torch.zeros(3, 1, 8, 8)
    return Prototypes(images, torch.arange(3), torch.full((3,), 20.0), 1.0, provenance)


@pytest.mark.parametrize("before", Provenance)
@pytest.mark.parametrize("images", Provenance)
def test_a_denoiser_has_seen_what_it_learned_from_and_what_it_started_as(context, make_denoiser, before, images):
    denoiser = make_denoiser()
    denoiser.provenance = before
    source = batches_of_prototypes(prototypes_of(images), AugmentationConfig(), 3)
    order = [Provenance.PUBLIC, Provenance.RELEASED, Provenance.PRIVATE]
    expected = max(before, images, key=order.index)
    learned = taught(context, source, denoiser, "a")
    assert learned.provenance is expected
    assert copy.deepcopy(learned).provenance is expected, "an average of it, or a copy"


def test_records_are_private_whoever_draws_them(records):
    cpu = torch.device("cpu")
    assert batches_as_they_are(records, cpu).provenance is Provenance.PRIVATE
    assert batches_of_images(records, AugmentationConfig(), cpu).provenance is Provenance.PRIVATE


def private_steps(context, denoiser, records):
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=1.0)
    randomness = PrivateRandomness(seed=0)
    return dp_sgd(
        "test",
        model=denoiser,
        rows=denoising_rows(
            denoiser,
            noise_multiplicity=1,
            levels=lambda uniform: uniform.float() + 0.1,
            label_dropout=0.0,
            no_label=3,
            randomness=randomness,
        ),
        records=records,
        sanitizer=Sanitizer(plan, Ledger(math.inf, 1e-5), randomness),
        expected_batch_size=40.0,
        learning_rate=1e-3,
        ema_half_life_steps=1.0,
        chunk_size=40,
        randomness=randomness,
        checkpoint=context.checkpoint("private"),
        log=context.log("private"),
    )


def test_a_denoiser_that_was_trained_on_records_is_refused_by_the_loop_that_clips(context, make_denoiser, records):
    """The review's way to a false statement: train on records directly, then refine and ask for a statement."""
    ten = replace(records, labels=records.labels % 3, class_names=("a", "b", "c"))
    learned = taught(context, batches_as_they_are(ten, torch.device("cpu")), make_denoiser(), "direct")
    with pytest.raises(ValueError, match="the model has provenance 'private' and may not enter a loop that clips"):
        private_steps(context, learned.requires_grad_(True), ten)
    made = Releasable(learned, ReleaseConfig(image_shape=(1, 8, 8), class_names=("a", "b", "c")))
    with pytest.raises(ValueError, match="the student has provenance 'private'"):
        formally(made, context, "records")


def in_three_classes(records, provenance=Provenance.PRIVATE):
    return replace(records, labels=records.labels % 3, class_names=("a", "b", "c"), provenance=provenance)


def test_records_that_were_called_public_are_refused_by_the_loop_and_the_statement(context, make_denoiser, records):
    own, others = in_three_classes(records.take(torch.arange(20))), in_three_classes(records.take(torch.arange(20, 40)))
    context = replace(context, load_records=lambda: own)
    cpu = torch.device("cpu")
    called_public = batches_as_they_are(replace(own, provenance=Provenance.PUBLIC), cpu)
    learned = taught(context, called_public, make_denoiser(), "called")
    assert learned.provenance is Provenance.PUBLIC
    message = "some of the images that were taken to be public are records themselves"
    with pytest.raises(ValueError, match=f"the model: {message}"):
        private_steps(context, copy.deepcopy(learned).requires_grad_(True), own)
    release = ReleaseConfig(image_shape=(1, 8, 8), class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match=f"the student: {message}"):
        formally(Releasable(learned, release), context, "records")
    with pytest.raises(ValueError, match=f"the student: {message}"):
        formally(Releasable(StartedDenoiser(learned, prototypes_of(Provenance.RELEASED)), release), context, "records")

    public = batches_of_images(replace(others, provenance=Provenance.PUBLIC), AugmentationConfig(), cpu)
    learned = taught(context, public, make_denoiser(), "public")
    student = private_steps(context, learned.requires_grad_(True), own)
    assert student.public_images == learned.public_images == public.public_images != ()
    statement = formally(Releasable(student, release), context, "records").statement
    assert PUBLIC_IMAGES in statement["not_covered"]


def test_nothing_is_noted_of_private_images(context, make_denoiser, records):
    batches = batches_as_they_are(in_three_classes(records), torch.device("cpu"))
    assert batches.public_images == taught(context, batches, make_denoiser(), "private").public_images == ()


def test_latents_are_the_images_that_they_stand_for(records):
    """As in DP-LDM, whose loop sees latents alone."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderConfig(channels=8, patch=1), (1, 8, 8))
    own = latents_of(autoencoder, records.take(torch.arange(20)))
    public = latents_of(autoencoder, replace(records, provenance=Provenance.PUBLIC))
    noted = batches_as_they_are(public, torch.device("cpu")).public_images
    assert noted == batches_as_they_are(public.origin, torch.device("cpu")).public_images
    with pytest.raises(ValueError, match="are records themselves"):
        require_apart("the model", noted, own)
    rest = batches_as_they_are(public.take(torch.arange(20, 40)), torch.device("cpu")).public_images
    require_apart("the model", rest, own)
    autoencoder.decoder.public_images = noted
    assert LatentModel(torch.nn.Identity(), autoencoder.decoder).public_images == noted


def test_gradient_rows_make_a_public_denoiser_a_released_one(context, make_denoiser, records):
    denoiser = make_denoiser()
    three = replace(records, labels=records.labels % 3, class_names=("a", "b", "c"))
    learned = private_steps(context, denoiser, three)
    assert learned.provenance is Provenance.RELEASED


def test_clusters_of_all_records_are_no_labels_of_their_own(context, make_denoiser, records):
    with pytest.raises(ValueError, match="labels are clusters that were found among all records"):
        private_steps(context, make_denoiser(), replace(records, clustered=True))


def test_what_is_released_together_is_as_private_as_its_parts(make_denoiser):
    denoiser = make_denoiser()
    started = StartedDenoiser(denoiser, prototypes_of(Provenance.PRIVATE))
    assert started.provenance is Provenance.PRIVATE
    assert StartedDenoiser(denoiser, prototypes_of(Provenance.RELEASED)).provenance is Provenance.RELEASED

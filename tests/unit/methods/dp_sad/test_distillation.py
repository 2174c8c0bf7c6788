import copy

import pytest
import torch

from discriminators.choice import DISCRIMINATORS, DiscriminatorConfig, new_discriminator
from discriminators.losses import discriminator_loss, feature_distance, gradient_penalty, saturating_loss
from dpsad.diffusion.parameterisations import edm_loss_weight
from dpsad.methods.dp_sad.distillation import StudentConfig, distill, output_gradient
from dpsad.methods.dp_sad.queries import Proposal, propose
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run
from dpsad.training.batches import Batches
from teachers.denoiser import DenoiserTeacher

LABELS = torch.tensor([0, 2, 1])
LEVELS = torch.tensor([[0.1, 2.0, 0.5], [1.0, 0.3, 4.0], [0.2, 0.7, 0.4], [3.0, 0.1, 0.9]])  # four for each image


@pytest.fixture
def models(make_denoiser, perturbed):
    """A student, another denoiser as its teacher, and a discriminator."""
    torch.manual_seed(0)
    student, teacher = make_denoiser(), perturbed(make_denoiser(), 0.05)
    discriminator = perturbed(new_discriminator(DiscriminatorConfig(channels=8), image_channels=1, num_classes=3))
    teacher.provenance = Provenance.PRIVATE
    return student, DenoiserTeacher(teacher), discriminator


def one_step(
    config, models, tmp_path, *, levels=LEVELS, sanitize=lambda gradient: gradient, images=Provenance.PUBLIC, **weights
):
    """The gradients that one step collects, in student and discriminator, before their optimizers use them."""
    student, teacher, discriminator = copy.deepcopy(models)
    seen = {}

    def note(name, model):
        for number, parameter in enumerate(model.parameters()):
            parameter.register_post_accumulate_grad_hook(
                lambda parameter, key=(name, number): seen.__setitem__(key, parameter.grad.clone())
            )

    note("student", student)
    note("discriminator", discriminator)
    distill(
        config,
        student=student,
        teacher=teacher,
        discriminator=discriminator,
        batches=Batches(images, lambda num, rng: (torch.rand(num, 1, 8, 8, generator=rng) * 2 - 1, LABELS)),
        levels=lambda num, rng: levels,
        sanitize=sanitize,
        rng=torch.Generator().manual_seed(3),
        checkpoint=Checkpoint(tmp_path / "checkpoint"),
        log=Log(open_run(tmp_path / "run", StudentConfig()), "distill"),
        precision="float32",
        **weights,
    )
    return seen


def assert_same_gradients(seen, name, gradients):
    """Every tensor, in norm: single numbers of single precision differ from processor to processor.

    The little that is allowed beside a thousandth is for tensors whose gradient is zero but for rounding.
    """
    rounding = 1e-5 * torch.stack([gradient.norm() for gradient in gradients]).norm()
    for number, gradient in enumerate(gradients):
        assert (seen[name, number] - gradient).norm() <= 1e-3 * gradient.norm() + rounding


@pytest.mark.parametrize(
    ("weighting", "penalty", "matching"), [("edm", 0.0, 0.0), ("flat", 0.0, 0.0), ("edm", 7.0, 5.0)]
)
def test_all_levels_in_chunks_are_the_mean_over_every_image_and_level(models, tmp_path, weighting, penalty, matching):
    """Against autograd through the paper's loss, written out, on one batch of all images at all levels."""
    config = StudentConfig(steps=1, batch_size=3, data_weight=0.5, adversarial_weight=30.0, weighting=weighting)
    seen = one_step(config, models, tmp_path, penalty_weight=penalty, feature_weight=matching)

    student, teacher, discriminator = models
    rng = torch.Generator().manual_seed(3)
    clean = torch.rand(3, 1, 8, 8, generator=rng) * 2 - 1
    noise = torch.cat([torch.randn(clean.shape, generator=rng) for _ in LEVELS])
    clean, labels, sigma = clean.repeat(4, 1, 1, 1), LABELS.repeat(4), LEVELS.flatten()
    proposal = propose(student, clean, sigma, noise, labels)
    answer = teacher.denoise(proposal.inputs, sigma, labels)[0]
    weight = edm_loss_weight(sigma, 0.5) if weighting == "edm" else torch.ones(12)
    errors = (proposal.outputs - answer).square() + 0.5 * (proposal.outputs - clean).square()
    loss = weight * errors.sum((1, 2, 3)) + 30.0 * saturating_loss(discriminator(proposal.outputs, sigma, labels))
    made, wanted = discriminator.features(proposal.outputs, sigma), discriminator.features(answer, sigma)
    loss = loss + matching * feature_distance(made, wanted)
    gradients = torch.autograd.grad(loss.mean(), list(student.parameters()), retain_graph=True)
    assert_same_gradients(seen, "student", gradients)
    logits = discriminator(answer, sigma, labels), discriminator(proposal.outputs.detach(), sigma, labels)
    loss = discriminator_loss(*logits) + penalty * gradient_penalty(discriminator, answer, sigma, labels)
    assert_same_gradients(seen, "discriminator", torch.autograd.grad(loss, list(discriminator.parameters())))


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_feature_matching_gives_each_image_a_row_of_its_own(perturbed, rng, kind):
    """Zero where the output is the answer already, the same whatever else is in the batch, and downhill.

    In double precision: how far a small step leads downhill is lost in the rounding of single precision.
    """
    discriminator = perturbed(
        new_discriminator(DiscriminatorConfig(kind=kind, channels=8), image_channels=1, num_classes=3)
    ).double()
    config = StudentConfig(teacher_weight=0.0, adversarial_weight=0.0)
    answer, outputs = torch.randn(2, 3, 1, 8, 8, generator=rng, dtype=torch.float64)
    outputs[1] = answer[1]
    sigma = LEVELS[0].double()

    def rows(outputs, answer):
        proposal = Proposal(outputs, sigma, LABELS, outputs)
        return output_gradient(config, proposal, answer, answer, discriminator, 0.5, 2.0)

    def distance(outputs):
        made, wanted = discriminator.features(outputs, sigma), discriminator.features(answer, sigma)
        return feature_distance(made, wanted)

    gradient = rows(outputs, answer)
    assert gradient.flatten(1).any(1).tolist() == [True, False, True]
    other, other_answer = outputs.clone(), answer.clone()
    other[1:], other_answer[1:] = 3.0, -2.0
    torch.testing.assert_close(rows(other, other_answer)[0], gradient[0])
    with torch.no_grad():
        assert (distance(outputs - 1e-4 * gradient) < distance(outputs))[[0, 2]].all()


def test_every_image_and_level_is_a_row_of_its_own_to_the_sanitizer(models, tmp_path):
    """The sanitizer sees one batch of images at a time, however many levels there are."""
    shapes = []

    def note(gradient):
        shapes.append(tuple(gradient.shape))
        return gradient

    one_step(StudentConfig(steps=1, batch_size=3), models, tmp_path, sanitize=note)
    assert shapes == [(3, 1, 8, 8)] * 4


def test_what_the_sanitizer_gives_reaches_the_weights_and_nothing_else(models, tmp_path):
    config = StudentConfig(steps=1, batch_size=3, teacher_weight=5.0, data_weight=1.0)
    seen = one_step(config, models, tmp_path, sanitize=torch.zeros_like)
    assert not any(gradient.any() for (name, _), gradient in seen.items() if name == "student")
    assert any(gradient.any() for (name, _), gradient in seen.items() if name == "discriminator")


def test_steps_do_not_carry_gradients_over(models, tmp_path):
    """At the second step the student's released gradient is zero; so must be what reaches its weights."""
    calls = []

    def first_only(gradient):
        calls.append(1)
        return gradient if len(calls) == 1 else torch.zeros_like(gradient)

    config = StudentConfig(steps=2, batch_size=3)
    seen = one_step(config, models, tmp_path, levels=LEVELS[:1], sanitize=first_only)
    assert len(calls) == 2
    assert not any(gradient.any() for (name, _), gradient in seen.items() if name == "student")


@pytest.mark.parametrize("what", ["the teacher", "the student", "its images"])
def test_without_a_sanitizer_nothing_may_have_seen_records(models, tmp_path, what):
    """Each of them alone would let records into a student that claims to have met none."""
    student, teacher, discriminator = models
    teacher = DenoiserTeacher(teacher.denoiser)
    teacher.provenance = Provenance.PRIVATE if what == "the teacher" else Provenance.RELEASED
    student.provenance = Provenance.PRIVATE if what == "the student" else Provenance.PUBLIC
    images = Provenance.PRIVATE if what == "its images" else Provenance.RELEASED
    with pytest.raises(ValueError, match=f"{what} has provenance 'private' and may not enter a formal run"):
        one_step(
            StudentConfig(steps=1, batch_size=3),
            (student, teacher, discriminator),
            tmp_path,
            sanitize=None,
            images=images,
        )


def test_a_student_has_seen_what_its_teacher_and_images_have(models, tmp_path):
    student, teacher, _ = models

    def distilled(teacher_saw, images_saw):
        teacher.provenance = teacher_saw
        return distill(
            StudentConfig(steps=1, batch_size=3),
            student=copy.deepcopy(student),
            teacher=teacher,
            discriminator=None,
            batches=Batches(images_saw, lambda num, rng: (torch.zeros(num, 1, 8, 8), LABELS)),
            levels=lambda num, rng: LEVELS[:1],
            sanitize=lambda gradient: gradient,
            rng=torch.Generator().manual_seed(3),
            checkpoint=Checkpoint(tmp_path / f"{teacher_saw.value} {images_saw.value}"),
            log=Log(open_run(tmp_path / "run", StudentConfig()), "distill"),
            precision="float32",
        ).provenance

    assert distilled(Provenance.PUBLIC, Provenance.PUBLIC) is Provenance.PUBLIC
    assert distilled(Provenance.RELEASED, Provenance.PUBLIC) is Provenance.RELEASED
    assert distilled(Provenance.PUBLIC, Provenance.PRIVATE) is Provenance.PRIVATE

"""Adversarial losses on logits, and what steadies them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Cross-entropy of telling teacher from student, a scalar.

    Source: Goodfellow et al. 2014, equation 1.
    """
    return F.softplus(-teacher_logits).mean() + F.softplus(student_logits).mean()


def saturating_loss(student_logits: Tensor) -> Tensor:
    """log(1 - D) per image, [batch]: what the student minimises in DP-SAD.

    Source: DP-SAD, equation of the student's loss; Goodfellow et al. 2014, equation 1.
    """
    return -F.softplus(student_logits)


def non_saturating_loss(student_logits: Tensor) -> Tensor:
    """-log D per image, [batch]: the same fixed point, with a gradient also where the discriminator is sure.

    Source: Goodfellow et al. 2014, section 3.
    """
    return F.softplus(-student_logits)


def gradient_penalty(
    discriminator: Callable[[Tensor, Tensor, Tensor], Tensor], images: Tensor, sigma: Tensor, labels: Tensor
) -> Tensor:
    """R1: half the squared norm of the logit's gradient at each image, a mean over images.

    Args:
        discriminator: logits of images, each a function of its own image alone.
        images: [batch, chan, height, width] of the teacher's side.
        sigma, labels: [batch] what they answer.

    Returns:
        A scalar with a graph into the discriminator's weights.

    Source: Mescheder et al. 2018, R1 in section 4.1, with gamma left to the caller.
    """
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images, sigma, labels).sum(), images, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean() / 2


def feature_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Squared distance of each image's features from those of its own target, [batch].

    Salimans et al. match means over a batch; here each output has an answer of its own, and its gradient must be a
    function of one image.

    Args:
        student_features, teacher_features: [batch, features], row by row of the same input.

    Source: Salimans et al. 2016, section 3.1.
    """
    return (student_features - teacher_features).square().sum(1)

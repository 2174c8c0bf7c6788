"""Adversarial losses on logits."""

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

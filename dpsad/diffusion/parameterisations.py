"""What a network inside a denoiser predicts: four kinds from the field, under one contract.

D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), where x is the clean image plus sigma times standard normal noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Coefficients = tuple[Tensor, Tensor, Tensor, Tensor]  # c_skip, c_out, c_in, c_noise, [batch] each

# Karras et al. 2022, Table 1, columns "VP" and "VE"
_BETA_MIN, _BETA_D, _EPSILON_T = 0.1, 19.9, 1e-5
_VE_SIGMA_MIN, _VE_SIGMA_MAX = 0.02, 100.0
# Dockhorn et al. 2023, Table 8: log signal-to-noise ratios between which v-prediction is trained
_V_LOG_SNR_MIN, _V_LOG_SNR_MAX = -9.0, 13.0


@dataclass(frozen=True)
class Parameterisation:
    """One kind of denoiser.

    Attributes:
        coefficients: sigma [batch], sigma_data -> (c_skip, c_out, c_in, c_noise), [batch] each. c_noise is in about
            [-5, 5], which is what the networks here embed.
        loss_weight: sigma [batch], sigma_data -> [batch], the weight of the squared error of D.
        levels: uniform numbers in (0, 1) -> noise levels to train on, of the same shape, float32.

    All but EDM take clean pixels to have unit variance, and leave `sigma_data` aside.

    Source: Karras et al. 2022, Table 1; Salimans and Ho 2022 for v.
    """

    coefficients: Callable[[Tensor, float], Coefficients]
    loss_weight: Callable[[Tensor, float], Tensor]
    levels: Callable[[Tensor], Tensor]


def lognormal_quantiles(uniform: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Noise levels whose logarithm is normal, from uniform numbers.

    Source: Karras et al. 2022, Table 1, column "Ours", row "Noise distribution".
    """
    return (mean + std * torch.special.ndtri(uniform)).exp().float()


def _edm_coefficients(sigma: Tensor, sigma_data: float) -> Coefficients:
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    c_in = 1 / (sigma**2 + sigma_data**2).sqrt()
    c_noise = sigma.log() / 4
    return c_skip, c_out, c_in, c_noise


def edm_loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Weight that gives every noise level the same expected loss at the start of training.

    Source: Karras et al. 2022, Table 1, column "Ours", row "Loss weighting".
    """
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def _vp_coefficients(sigma: Tensor, sigma_data: float) -> Coefficients:
    # time itself, not 999 times it: the networks' own frequencies reach 1,000
    ratio = _BETA_MIN / _BETA_D
    time = (ratio**2 + 2 * (sigma**2).log1p() / _BETA_D).sqrt() - ratio
    return torch.ones_like(sigma), -sigma, (sigma**2 + 1).rsqrt(), time


def _vp_levels(uniform: Tensor) -> Tensor:
    time = _EPSILON_T + (1 - _EPSILON_T) * uniform
    return (_BETA_D * time**2 / 2 + _BETA_MIN * time).expm1().sqrt().float()


def _ve_coefficients(sigma: Tensor, sigma_data: float) -> Coefficients:
    one = torch.ones_like(sigma)
    return one, sigma, one, (sigma / 2).log()


def _ve_levels(uniform: Tensor) -> Tensor:
    return _VE_SIGMA_MIN * (_VE_SIGMA_MAX / _VE_SIGMA_MIN) ** uniform.float()


def _noise_loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Makes the error that of the predicted noise."""
    return 1 / sigma**2


def _v_coefficients(sigma: Tensor, sigma_data: float) -> Coefficients:
    # F is v = alpha noise - sigma' image, with alpha = c_in and sigma' = sigma c_in
    alpha = (sigma**2 + 1).rsqrt()
    return alpha**2, -sigma * alpha, alpha, sigma.atan() * (2 / math.pi)


def _v_loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Makes the error that of the predicted v."""
    return (sigma**2 + 1) / sigma**2


def _v_levels(uniform: Tensor) -> Tensor:
    # the cosine schedule: sigma = tan(pi t / 2)
    first, last = (math.atan(math.exp(-log_snr / 2)) for log_snr in (_V_LOG_SNR_MAX, _V_LOG_SNR_MIN))
    return (first + (last - first) * uniform).tan().float()


PARAMETERISATIONS = {
    "edm": Parameterisation(_edm_coefficients, edm_loss_weight, lognormal_quantiles),
    "vp": Parameterisation(_vp_coefficients, _noise_loss_weight, _vp_levels),
    "ve": Parameterisation(_ve_coefficients, _noise_loss_weight, _ve_levels),
    "v": Parameterisation(_v_coefficients, _v_loss_weight, _v_levels),
}

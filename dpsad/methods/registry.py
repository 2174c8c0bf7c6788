"""From the name of a baseline to what it does. The only place that asks which method a run has."""

from dpsad.config import BASELINES, Config
from dpsad.methods import dp_diffusion, dp_ldm, dp_merf, dpdm, gs_wgan
from dpsad.methods import dp_sgd_denoiser as gradient_rows
from dpsad.methods.method import Method


def method_of(config: Config) -> Method:
    """The baseline that `method` names.

    Raises:
        ValueError: it names none.
    """
    if config.method == "dpdm":
        return Method("baseline", gradient_rows.plans, dpdm.train)
    if config.method == "dp-merf":
        return Method("dp_merf", dp_merf.plans, dp_merf.train)
    if config.method == "gs-wgan":
        return Method("gs_wgan", gs_wgan.plans, gs_wgan.train)
    if config.method == "dp-diffusion":
        return Method("baseline", gradient_rows.plans, dp_diffusion.train)
    if config.method == "dp-ldm":
        return Method("baseline", gradient_rows.plans, dp_ldm.train)
    raise ValueError(f"method={config.method} is no baseline; pass method={' or '.join(BASELINES)}")

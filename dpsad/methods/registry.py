"""Registry of methods by name: the only list of them."""

from typing import Any

from dpsad.methods import (
    class_means,
    dp_diffusion,
    dp_feta,
    dp_kernel,
    dp_ldm,
    dp_merf,
    dpdm,
    feta_pro,
    gs_wgan,
    private_evolution,
    privimage,
)
from dpsad.methods.dp_sad import method as dp_sad
from dpsad.methods.method import Method

DP_SAD = dp_sad.METHOD
METHODS: dict[str, Method[Any]] = {
    method.name: method
    for method in (
        DP_SAD,
        dpdm.METHOD,
        dp_feta.METHOD,
        feta_pro.METHOD,
        dp_merf.METHOD,
        dp_kernel.METHOD,
        gs_wgan.METHOD,
        dp_diffusion.METHOD,
        private_evolution.METHOD,
        privimage.METHOD,
        dp_ldm.METHOD,
        class_means.METHOD,
    )
}

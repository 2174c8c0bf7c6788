"""DP-Diffusion: a denoiser of public images, fine-tuned on records by DP-SGD.

Source: Ghalebikesabi et al. 2023.
"""

from dpsad import build_rows
from dpsad.commands.sketch import Subject
from dpsad.methods.dp_sgd_denoiser import new_denoiser, release_config, trained_on
from dpsad.methods.method import Opened
from dpsad.methods.public_denoiser import pretrained, with_new_classes
from dpsad.release.export import Releasable


def train(opened: Opened) -> Releasable:
    """Learns from public images, unless that was done before, then from the records."""
    config = opened.config
    vary = build_rows.record_views(config.augmentation)
    start, public = pretrained(opened)
    records = opened.read_records()
    subject = Subject.of(records)
    if public.image_shape[0] != subject.image_shape[0]:
        raise ValueError(
            f"the pretrained model makes images of shape {list(public.image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    denoiser = trained_on(
        records,
        opened,
        with_new_classes(start, new_denoiser(config, subject.image_shape, len(subject.class_names))),
        levels=build_rows.timestep_levels(config.baseline),
        vary=vary,
    )
    return Releasable(denoiser, release_config(config, subject))

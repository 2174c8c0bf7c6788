"""What `dpsad auto` does: settings from public numbers, a forecast, then the whole chain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from dpsad.api.choosing import PublicNumbers, chosen, mends
from dpsad.api.config import Config
from dpsad.api.forecast import Forecast, forecast, remarks_on_counts
from dpsad.api.launch import opened
from dpsad.commands.chain import run_chain
from dpsad.commands.evaluate import require_measurable
from dpsad.commands.inspect import located
from dpsad.commands.proposal import proposed
from dpsad.commands.read import read_config
from dpsad.commands.reporting import Found
from dpsad.commands.stages import require_dp_sad
from dpsad.data.stated import stated_form
from dpsad.data.survey import survey
from dpsad.methods.dp_sad.prototype_release import released_prototypes
from dpsad.privacy.ranges import Range, require_within
from dpsad.runtime.config_files import load_config
from dpsad.runtime.device import device_named, is_gpu
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import Run

Minutes = Annotated[float, Range("[0.1, 1e6]")]
LEAST, MOST = 2000, 20_000  # synthetic images that the evaluation's classifiers learn from


def run_auto(path: Path, overrides: Sequence[str], *, minutes: float, anyway: bool, say: Say) -> Found:
    """Goes from a folder or file of images to a release, its evaluation and a page.

    Args:
        path: of the images, as for `dpsad inspect`.
        overrides: key=value; what they say is not chosen.
        minutes: that training may take, about.
        anyway: runs where the forecast says that classes will be noise.

    Raises:
        ValueError: nothing is there, a source refuses, or classes would be noise; nothing was released.
    """
    require_within("--minutes", minutes, Minutes)
    config = auto_config(path, overrides, minutes=minutes)
    require_dp_sad(config)
    require_measurable(config)
    told = forecast(config, on_gpu=is_gpu(config.device))
    if told is not None:
        for line in told.lines():
            say(line)
        if told.is_noise and not anyway:
            raise ValueError(_refusal(config, told))
    with opened(config, say) as context:
        released = released_prototypes(config.settings(), context)
    remarks = [] if told is None else remarks_on_counts(told, released.prototypes, released.subject.class_names)
    for remark in remarks:
        say(remark)
    found = run_chain(config, num=min(MOST, max(LEAST, config.privacy.num_records)), say=say)
    facts = {**found.facts, "forecast": told and told.to_dict(), "remarks": remarks}
    return replace(found, text="\n".join([found.text, *remarks]), facts=facts)


def auto_config(path: Path, overrides: Sequence[str], *, minutes: float) -> Config:
    """The config of a run on these images: what `dpsad inspect` proposes, and settings that follow from it.

    Settings are chosen from numbers that the config states, and so makes public; a run that was begun keeps its own.

    Raises:
        ValueError: likewise.
    """
    run = next((text.removeprefix("run=") for text in reversed(overrides) if text.startswith("run=")), None)
    if run is not None and Run(Path(os.path.expanduser(run))).config.exists():
        return read_config(None, overrides)
    settings = read_config(None, [*located(path, overrides), *overrides])
    device_named(settings.device)  # refused before images are read
    sections: dict[str, Any] = {"run": f"runs/{path.stem}", **proposed(settings.data, survey(settings.data))}
    stated = load_config(Config, base=sections, overrides=overrides)
    form = stated_form(stated.data)
    if form is None:
        raise ValueError(
            f"{path}: settings are chosen by the number of classes and the size and colour of images, and not all are "
            "known; pass data.num_classes=..., data.image_size=... and data.grey=true or data.colour=true"
        )
    numbers = PublicNumbers(privacy=stated.privacy, form=form, minutes=minutes, on_gpu=is_gpu(stated.device))
    for name, section in chosen(numbers).items():
        sections[name] = {**sections.get(name, {}), **_plain(section)}
    return load_config(Config, base=sections, overrides=overrides)


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}


def _refusal(config: Config, told: Forecast) -> str:
    """Numbers, and what would do."""
    found = mends(PublicNumbers(privacy=config.privacy, form=told.form))
    ways = [
        f"privacy.epsilon={found['epsilon']:g}" if found["epsilon"] else "",
        f"{found['classes']:g} classes in place of {told.form.num_classes} (merge some)" if found["classes"] else "",
        f"{found['records']:,} records",
    ]
    noise = told.prototypes[0]
    return (
        f"privacy.epsilon={config.privacy.epsilon:g} with privacy.num_records={told.num_records} in "
        f"{told.form.num_classes} classes: classes will be noise, for a class mean of {noise.records:,.0f} records has "
        f"noise of {noise.of_shapes:.2g} standard deviations of an image on its shapes; any of these would do: "
        f"{', '.join(way for way in ways if way)}; or pass --anyway"
    )

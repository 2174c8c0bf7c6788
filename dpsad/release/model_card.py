"""Model card, the README.md of a release: what it is, how to use it, what its privacy statement means."""

import yaml

from dpsad.release.students import KINDS, ReleaseConfig
from dpsad.runtime.markdown import in_markdown

NO_LICENSE = "# license: not stated; whoever shares this folder writes its identifier here, such as apache-2.0"


def model_card(config: ReleaseConfig, statement: dict) -> str:
    """Markdown under a block of YAML, as model hubs read it. No word of the block comes from names of classes."""
    chan, height, width = config.image_shape
    records_per_person = statement.get("records_per_person", 1)
    of_whom, whose = (
        (f"all records of one person, up to {records_per_person}, ", "any given person's images were")
        if records_per_person > 1
        else ("one record ", "a given image was")
    )
    if statement["formal"]:
        claim = (
            f"Formally private: epsilon = {statement['epsilon']:.4g}, delta = {statement['delta']:g}, for {of_whom}"
            f"added or removed. Whatever anyone computes from this folder, whether {whose} among the records "
            "changes its probability by at most a factor exp(epsilon), up to delta."
        )
    else:
        lines = "\n".join(f"- {reason}" for reason in statement["reasons"])
        nominal = statement.get("nominal_epsilon")
        named = f" Its nominal epsilon, as published, is {nominal:.4g}." if nominal is not None else ""
        claim = f"**NOT formally private.**{named} It must not be shared as if it were:\n\n{lines}"
    classes = f"{len(config.class_names)} classes ({', '.join(map(in_markdown, config.class_names))})"
    if config.use_labels:
        of_classes, columns = f"of {classes}", "has one class a column"
    else:
        of_classes, columns = f"of any of {classes}, without being told which,", "has samples of any class"
    origin = ""
    if config.fine_tuned < 1:
        origin = (
            f" Records have changed {config.fine_tuned:.1%} of its denoiser's parameters; all others come from public "
            "images."
        )
    chosen = ""
    if selection := statement.get("selection"):
        chosen = (
            f" It is the best of a secret number of runs, {selection['mean']:g} on average, by a noisy score; epsilon "
            "covers the choice."
        )
    uncovered = "\n".join(f"- {item}" for item in statement["not_covered"])
    return f"""---
{_metadata(statement)}---

# Image generator

Makes {height}x{width} {"grey" if chan == 1 else "colour"} images {of_classes} \
in {KINDS[config.kind].effort(config)}. Trained with dpsad, method `{statement["method"]}`, \
guarantee `{statement["guarantee"]}`.{origin}

## Use

```python
import dpsad

student = dpsad.Student.from_pretrained("release")
images = student.sample([0, 1, 2], seeds=[1, 2, 3])  # [3, {chan}, {height}, {width}] in [-1, 1]
```

or `dpsad sample release --num 1000 --out samples/`. The picture `samples.png` {columns}.

## Privacy

{claim}{chosen}

Not covered:

{uncovered}

All numbers are in `privacy.json`.
"""


def _metadata(statement: dict) -> str:
    """Lines of YAML: what loads it, what it is for, and by what it is found. A license is its owner's to state."""
    found_by = ["differential-privacy" if statement["formal"] else "not-formally-private", "synthetic-data", "images"]
    metadata = {
        "library_name": "dpsad",
        "pipeline_tag": "unconditional-image-generation",
        "tags": [*found_by, str(statement["method"])],
    }
    return f"{NO_LICENSE}\n{yaml.safe_dump(metadata, sort_keys=False)}"

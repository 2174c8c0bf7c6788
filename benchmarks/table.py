"""Methods, data sets and budgets in one table: python benchmarks/table.py data.root=data

Runs the commands of every cell in a folder of its own below runs/table and writes docs/results.md from all that are
finished. Cells that are finished are not run again, and one that was stopped goes on; so the table grows over as many
calls as it takes. Words narrow it down or move it, others go to every command that trains:

    data.root=data       where the data sets are: MNIST, FashionMNIST, and cifar10 as an image folder
    only=mnist-dpdm,...  cells whose names begin with one of these
    epsilons=1,10        budgets, of 0.2, 1 and 10
    seeds=0,1            seeds of models, samples and classifiers; privacy noise is always fresh
    folder=runs/table    where runs are kept
    out=docs/results.md  the page
    machine=...          what the page calls the machine
    run=no               writes the page only

Two calls with OMP_NUM_THREADS=1 and different cells make better use of two cores than one call with both.
"""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean

from dpsad.report.reading import Result, read_run

NUM_SAMPLES = 20_000
REFERENCE = Path("private") / "reference_classifier.safetensors"
STUDENT, BASELINE = ("teach", "distill"), ("baseline",)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is run on a data set.

    verbs: the commands that train it, in order.
    presets: by epsilon; budgets that have none of their own take that of the nearest larger one, and larger budgets
        than any are no cells.
    settings: beside the preset; {root} is where the data sets are.
    taken: (key, method, file): what another run of the table has made already, at epsilon 10 and the same seed.
    """

    verbs: tuple[str, ...]
    presets: dict[float, str]
    settings: tuple[str, ...] = ()
    taken: tuple[str, str, str] | None = None


FASHION_MNIST_IS_PUBLIC = ("public_data.root={root}",)
LATENT_MODEL = ("pretrain.path", "dp-ldm", "private/pretrained.pt")
RECIPES = {
    ("mnist", "records"): Recipe(verbs=STUDENT, presets={10: "mnist", 1: "mnist-epsilon1"}),
    ("mnist", "shards"): Recipe(verbs=STUDENT, presets={10: "mnist-shards"}),
    ("mnist", "nominal"): Recipe(
        verbs=STUDENT, presets={10: "mnist-nominal"}, taken=("teacher.path", "nominal", "private/teacher.pt")
    ),
    ("mnist", "dpdm"): Recipe(verbs=BASELINE, presets={10: "mnist-dpdm", 1: "mnist-dpdm-epsilon1"}),
    ("mnist", "dp-diffusion"): Recipe(
        verbs=BASELINE,
        presets={10: "mnist-dp-diffusion", 1: "mnist-dp-diffusion-epsilon1"},
        settings=FASHION_MNIST_IS_PUBLIC,
        taken=("pretrain.path", "dp-diffusion", "private/pretrained.pt"),
    ),
    ("mnist", "dp-ldm"): Recipe(
        verbs=BASELINE,
        presets={10: "mnist-dp-ldm", 1: "mnist-dp-ldm-epsilon1"},
        settings=FASHION_MNIST_IS_PUBLIC,
        taken=LATENT_MODEL,
    ),
    ("mnist", "dp-ldm-all-weights"): Recipe(
        verbs=BASELINE,
        presets={1: "mnist-dp-ldm-epsilon1"},
        settings=(*FASHION_MNIST_IS_PUBLIC, "fine_tune.parameters=all"),
        taken=LATENT_MODEL,
    ),
    ("mnist", "dp-ldm-cifar10"): Recipe(
        verbs=BASELINE, presets={10: "mnist-dp-ldm-cifar10"}, settings=("public_data.path={root}/cifar10",)
    ),
    ("mnist", "dp-merf"): Recipe(verbs=BASELINE, presets={10: "mnist-dp-merf", 1: "mnist-dp-merf-epsilon1"}),
    ("mnist", "gs-wgan"): Recipe(verbs=BASELINE, presets={10: "mnist-gs-wgan"}),
    ("fashion-mnist", "records"): Recipe(verbs=STUDENT, presets={10: "fashion-mnist"}),
    ("fashion-mnist", "dpdm"): Recipe(verbs=BASELINE, presets={10: "fashion-mnist-dpdm"}),
    ("fashion-mnist", "dp-merf"): Recipe(verbs=BASELINE, presets={10: "fashion-mnist-dp-merf"}),
}

# accuracy of a CNN on samples, as others have printed it: (data, method, epsilon) -> (figure, where)
DPIMAGEBENCH = "DPImageBench, re-measured"
PUBLISHED: dict[tuple[str, str, float], tuple[float, str]] = {
    ("mnist", "nominal", 10): (0.976, "DP-SAD, as published, nominal epsilon"),
    ("mnist", "nominal", 1): (0.962, "DP-SAD, as published, nominal epsilon"),
    ("mnist", "dpdm", 10): (0.981, "DPDM, as published"),
    ("mnist", "dpdm", 1): (0.953, "DPDM, as published"),
    ("mnist", "dp-diffusion", 10): (0.974, DPIMAGEBENCH),
    ("mnist", "dp-merf", 10): (0.813, DPIMAGEBENCH),
    ("mnist", "dp-merf", 1): (0.803, DPIMAGEBENCH),
    ("mnist", "gs-wgan", 10): (0.753, DPIMAGEBENCH),
    ("mnist", "gs-wgan", 1): (0.724, DPIMAGEBENCH),
    ("fashion-mnist", "dpdm", 10): (0.862, "DPDM, as published"),
    ("fashion-mnist", "dpdm", 1): (0.794, "DPDM, as published"),
}


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    data: str
    method: str
    epsilon: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.method}-epsilon{self.epsilon:g}-seed{self.seed}"


def commands(cell: Cell, folder: Path, root: str, words: Sequence[str]) -> list[list[str]]:
    """What one types to run a cell, without `dpsad` itself."""
    recipe, run = RECIPES[cell.data, cell.method], folder / cell.name
    preset = recipe.presets[min(epsilon for epsilon in recipe.presets if epsilon >= cell.epsilon)]
    settings = [f"data.root={root}", *(setting.format(root=root) for setting in recipe.settings)]
    settings += [f"run={run}", f"privacy.epsilon={cell.epsilon:g}", f"seed={cell.seed}", *words]
    verbs = recipe.verbs
    if recipe.taken is not None:
        key, method, file = recipe.taken
        donor = Cell(cell.data, method, 10, cell.seed)
        if donor != cell:
            settings.append(f"{key}={folder / donor.name / file}")
            verbs = verbs[-1:]
    return [
        *([verb, "--config", preset, *settings] for verb in verbs),
        ["evaluate", str(run), *f"--num {NUM_SAMPLES} --seed {cell.seed} --classifier cnn --no-compare".split()],
    ]


def run_cell(cell: Cell, folder: Path, root: str, words: Sequence[str]) -> None:
    """Runs what is left of a cell; all cells of a data set measure distances in one feature space."""
    run = folder / cell.name
    if (run / "private" / "evaluation.json").exists():
        return
    shared = folder / f"{cell.data}-{REFERENCE.name}"
    *training, evaluation = commands(cell, folder, root, words)
    start = time.perf_counter()
    for words_of_command in training:
        _call(words_of_command)
    if shared.exists():
        shutil.copyfile(shared, run / REFERENCE)
    _call(evaluation)
    if not shared.exists():
        shutil.copyfile(run / REFERENCE, shared)
    print(f"{cell.name}: {(time.perf_counter() - start) / 60:.1f} minutes in this call", flush=True)


def _call(words: Sequence[str]) -> None:
    print(f"$ dpsad {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "dpsad.cli", *words], check=True)


def page(folder: Path, cells: Sequence[Cell], words: Sequence[str], machine: str) -> str:
    """docs/results.md: a table for each data set, then the commands of every line in it."""
    results = {
        cell: read_run(folder / cell.name, cell.name)
        for cell in cells
        if (folder / cell.name / "private" / "evaluation.json").exists()
    }
    hardware = ", ".join(sorted({result.hardware for result in results.values()}))
    lines = [
        "# Results",
        "",
        "Written by `python benchmarks/table.py`, which runs the commands below; `data` is where the data sets are. "
        "Every line is trained on the training set under (epsilon, delta = 1e-5) for one record added or removed, "
        "epsilon from the run's own ledger; with shards and gs-wgan the unit is a shard, and covers each record in it. "
        f"Accuracy is that of the CNN of the literature, which learns from {NUM_SAMPLES:,} samples alone; its epoch is "
        "chosen on held-out samples, and the real test set is read once. Settings are those of the presets, and none "
        "was chosen on a test set. Where there are several seeds, figures are means with half the range behind ±. "
        "Frechet distances are in the feature space of one small classifier a data set, trained on real images: not "
        "FID. Minutes are of the training stages that a run did itself, without what its command takes from another, "
        f"with {hardware or 'hardware that is not recorded'} on {machine}; other work had the rest. "
        "Published figures are accuracies of a CNN as others print them, from other networks, hardware and training "
        "times.",
    ]
    for data in dict.fromkeys(cell.data for cell in results):
        lines += ["", f"## {data}", "", *_table(data, results), "", "<details><summary>Commands</summary>", ""]
        for cell in results:
            if cell.data == data:
                typed = commands(cell, Path("runs/table"), "data", words)
                lines += ["```", *(f"dpsad {shlex.join(command)}" for command in typed), "```", ""]
        lines.append("</details>")
    return "\n".join(lines) + "\n"


def _table(data: str, results: dict[Cell, Result]) -> list[str]:
    titles = ["method", "epsilon", "accuracy", "Frechet", "minutes", "seeds", "published"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for method, epsilon in dict.fromkeys((cell.method, cell.epsilon) for cell in results if cell.data == data):
        group = {
            cell: result
            for cell, result in results.items()
            if (cell.data, cell.method, cell.epsilon) == (data, method, epsilon)
        }
        runs = list(group.values())
        evaluations = [result.evaluation for result in runs if result.evaluation is not None]
        spent = max(result.epsilon or result.nominal_epsilon or 0.0 for result in runs)
        published = PUBLISHED.get((data, method, epsilon))
        cells = [
            method if runs[0].formal else f"{method}, **not formal**",
            f"{spent:.2f}" if runs[0].formal else f"nominal {spent:.2f}",
            _spread([evaluation.student.classifiers["cnn"].accuracy for evaluation in evaluations], ".3f"),
            _spread([evaluation.student.frechet for evaluation in evaluations], ".0f"),
            _spread([result.training_minutes or 0.0 for result in runs], ".1f"),
            ", ".join(str(cell.seed) for cell in group),
            "" if published is None else f"{published[0]:.3f} ({published[1]})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spread(values: Sequence[float], form: str) -> str:
    middle = format(mean(values), form)
    return middle if len(values) == 1 else f"{middle} ± {format((max(values) - min(values)) / 2, form)}"


def _cells(epsilons: Sequence[float], seeds: Sequence[int]) -> list[Cell]:
    grid = product(RECIPES.items(), epsilons, seeds)
    return [Cell(*key, epsilon, seed) for (key, recipe), epsilon, seed in grid if epsilon <= max(recipe.presets)]


def main() -> None:
    words = sys.argv[1:]

    def option(key: str, default: str) -> str:
        found = [word for word in words if word.startswith(f"{key}=")]
        words[:] = [word for word in words if word not in found]
        return found[-1].removeprefix(f"{key}=") if found else default

    only, root = tuple(option("only", "").split(",")), option("data.root", "data")
    epsilons = [float(epsilon) for epsilon in option("epsilons", "10,1").split(",")]
    seeds = [int(seed) for seed in option("seeds", "0").split(",")]
    folder, out = Path(option("folder", "runs/table")), Path(option("out", "docs/results.md"))
    running, machine = option("run", "yes") == "yes", option("machine", "a machine without a name")
    folder.mkdir(parents=True, exist_ok=True)
    # largest budget first: others may take what it has made
    for cell in _cells(sorted(epsilons, reverse=True), seeds):
        if running and cell.name.startswith(only):
            run_cell(cell, folder, root, words)
    every = _cells((10, 1, 0.2), range(10))
    out.write_text(page(folder, every, words, machine), encoding="utf-8")
    print(f"page: {out}")


if __name__ == "__main__":
    main()

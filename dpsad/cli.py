"""The command line: one verb a stage, `key=value` for everything that a config holds.

A command is imported when it is asked for, so that help and errors of usage come at once.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm
from typer.core import TyperCommand

from dpsad.commands.ablations import ABLATIONS
from dpsad.commands.completion import SHELLS, verbs_of
from dpsad.commands.reporting import Found, reporting
from dpsad.errors import message_of, require_choice
from dpsad.evaluation.choices import DEFAULT_KINDS, JUDGEMENTS, KINDS, PROTOCOLS
from dpsad.runtime.torchrun import place_here

if TYPE_CHECKING:
    from dpsad.api.config import Config
    from dpsad.runtime.ranks import Ranks

MAX_COUNT, MAX_SEED = 10**9, 2**63 - 1
SHARED = ("sketch", "teach", "distill", "baseline")  # verbs that processes of torchrun work on together

app = typer.Typer(
    help="Trains private image generators by distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigOption = Annotated[
    str | None, typer.Option("--config", help="A preset's name or a YAML file; see dpsad presets.", show_default=False)
]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, such as run=runs/m privacy.epsilon=1")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]


class BaselineCommand(TyperCommand):
    """A command whose help says what each baseline is, which it loads only then."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from dpsad.commands.baseline import about_baselines

        self.epilog = about_baselines()
        super().format_epilog(ctx, formatter)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"dpsad {version('dpsad')}")
        raise typer.Exit()


@app.callback()
def dpsad(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _stage(run: "Callable[[Config, Callable[[str], object], Ranks], None]", config: str | None, words: Any) -> Found:
    """Runs a stage, with all processes that torchrun started, and says what it has left."""
    from dpsad.commands.read import read_config
    from dpsad.commands.stages import left_by_stage
    from dpsad.runtime.ranks import joined

    told = read_config(config, words or [])
    with joined() as ranks:
        run(told, tqdm.write, ranks)
    return left_by_stage(told) if ranks.leads else Found(text="", facts={}, said=True)


@app.command()
@reporting
def sketch(overrides: Overrides = None, config: ConfigOption = None) -> Found:
    """Release class-conditional prototypes of the records: the first, cheap stage of guarantee=records."""
    from dpsad.commands.sketch import run_sketch

    return _stage(run_sketch, config, overrides)


@app.command()
@reporting
def teach(overrides: Overrides = None, config: ConfigOption = None) -> Found:
    """Train the teacher diffusion model: on the sketch, on private records, or on public images."""
    from dpsad.commands.teach import run_teach

    return _stage(run_teach, config, overrides)


@app.command()
@reporting
def distill(overrides: Overrides = None, config: ConfigOption = None) -> Found:
    """Distil the student from the teacher, refine it with records, and write the release folder."""
    from dpsad.commands.distill import run_distill

    return _stage(run_distill, config, overrides)


@app.command(cls=BaselineCommand)
@reporting
def baseline(overrides: Overrides = None, config: ConfigOption = None) -> Found:
    """Train another method on the same records and budget, to compare with; writes the same release folder."""
    from dpsad.commands.baseline import run_baseline

    return _stage(run_baseline, config, overrides)


@app.command()
@reporting
def sample(
    student: Annotated[Path, typer.Argument(help="A run folder, or a release folder.")],
    num: Annotated[int, typer.Option(help="How many images, evenly over the classes.", min=1, max=MAX_COUNT)] = 1000,
    out: Annotated[Path, typer.Option(help="A folder for PNG files, or a file ending in .npz.")] = Path("samples"),
    seed: Annotated[int, typer.Option(help="Image i depends on this seed and i alone.", min=0, max=MAX_SEED)] = 0,
    label: Annotated[int | None, typer.Option(help="Make one class only.", min=0, show_default=False)] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Split each class, such as 0.2: train/ and test/ folders of classes, or MedMNIST's keys in .npz.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time; changes speed alone.", min=1, max=MAX_COUNT)] = 250,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> Found:
    """Make images with a released student."""
    from dpsad.commands.sample import run_sample

    made = run_sample(
        student,
        num=num,
        out=out,
        seed=seed,
        label=label,
        test_share=test_share,
        batch_size=batch_size,
        device=device,
    )
    return Found(text=str(made), facts=asdict(made))


@app.command()
@reporting
def evaluate(
    run: RunFolder,
    protocol: Annotated[
        str, typer.Option(help=f"{', '.join(PROTOCOLS)}: how classifiers are trained; dpdm for published tables.")
    ] = "quick",
    num: Annotated[
        int | None,
        typer.Option(
            help="Synthetic images to train on, not the protocol's.", min=10, max=MAX_COUNT, show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of samples, classifiers and draws.", min=0, max=MAX_SEED)] = 0,
    classifier: Annotated[list[str] | None, typer.Option(help=f"{', '.join(KINDS)}; repeat for several.")] = None,
    ensemble: Annotated[
        int, typer.Option(help="Classifiers of each kind, which answer together.", min=1, max=MAX_COUNT)
    ] = 1,
    metrics: Annotated[
        list[str] | None, typer.Option(help=f"Beyond the cheap: {', '.join(JUDGEMENTS)} or all; repeat for several.")
    ] = None,
    inception: Annotated[
        str | None, typer.Option(help="FID: file of Inception's weights, or cache (torch's).", show_default=False)
    ] = None,
    compare: Annotated[bool, typer.Option(help="Measure real data and the sketch alone, too.")] = True,
) -> Found:
    """Measure a run: downstream accuracy, distances and more, beside real data and the sketch alone."""
    for kind in classifier or []:
        require_choice("--classifier", kind, KINDS)
    require_choice("--protocol", protocol, tuple(PROTOCOLS))
    for name in metrics or []:
        require_choice("--metrics", name, (*JUDGEMENTS, "all"))
    from dpsad.commands.evaluate import evaluate_run
    from dpsad.commands.read import read_config

    asked = metrics or []
    result = evaluate_run(
        read_config(None, [f"run={run}"]),
        protocol=protocol,
        num=num,
        seed=seed,
        say=tqdm.write,
        classifiers=[kind for kind in KINDS if kind in (classifier or DEFAULT_KINDS)],
        compare=compare,
        members=ensemble,
        metrics=[name for name in JUDGEMENTS if name in asked or "all" in asked],
        inception=inception,
    )
    return Found(text=str(result), facts=result.to_dict())


@app.command(
    help="Run a series of runs that differ in one respect; a table and a plot of it go to the run's private/.\n\n"
    + "\n\n".join(f"{ablation.name}: {ablation.shows}" for ablation in ABLATIONS.values())
)
@reporting
def ablate(
    name: Annotated[str, typer.Argument(help=", ".join(ABLATIONS))],
    overrides: Overrides = None,
    config: ConfigOption = None,
    num: Annotated[
        int, typer.Option(help="Synthetic images to train the CNN on, in each cell.", min=10, max=MAX_COUNT)
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Of samples, classifiers and draws.", min=0, max=MAX_SEED)] = 0,
) -> Found:
    require_choice("ablation", name, tuple(ABLATIONS))
    from dpsad.api.config import Config
    from dpsad.commands.ablate import run_ablation
    from dpsad.commands.read import read_config

    def read(changes: Sequence[str]) -> Config:
        return read_config(config, [*(overrides or []), *changes])

    return run_ablation(ABLATIONS[name], read, num=num, seed=seed, say=tqdm.write)


@app.command()
@reporting
def audit(
    run: RunFolder,
    repetitions: Annotated[
        int | None,
        typer.Option(
            help="Games in each world; 20,000, or 100 of a nominal run.", min=4, max=MAX_COUNT, show_default=False
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of each lower bound.")] = 0.999,
    canaries: Annotated[int, typer.Option(help="Trains once more, with so many canaries.", min=0, max=MAX_COUNT)] = 0,
    shadows: Annotated[int, typer.Option(help="Trains so often on half of the records.", min=0, max=MAX_COUNT)] = 0,
) -> Found:
    """Measure what releases tell of a record, as a lower bound on epsilon beside the one that is claimed."""
    from dpsad.commands.audit import audit_lines, audit_run
    from dpsad.commands.read import read_config

    result = audit_run(
        read_config(None, [f"run={run}"]),
        repetitions=repetitions,
        confidence=confidence,
        canaries=canaries,
        shadows=shadows,
        say=tqdm.write,
    )
    refuted = result.refuted and (result.privacy or {}).get("formal")
    return Found(text="\n".join(audit_lines(result)), facts=result.to_dict(), said=True, code=1 if refuted else 0)


@app.command()
@reporting
def tune(
    overrides: Overrides = None,
    config: ConfigOption = None,
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", help="key=value,value,...; repeat for all combinations of several keys."),
    ] = None,
    mean: Annotated[float, typer.Option(help="Repetitions on average; their number is drawn, and secret.")] = 4.0,
    repetitions: Annotated[
        str,
        typer.Option(help="How it is distributed: geometric, logarithmic (both at least 1) or poisson (0 as well)."),
    ] = "geometric",
    num: Annotated[
        int, typer.Option(help="Synthetic images that each score's classifier learns from.", min=10, max=MAX_COUNT)
    ] = 5000,
    score_noise: Annotated[
        float, typer.Option(help="Standard deviation of the noise on a score, in records.", min=0.1, max=1e6)
    ] = 20.0,
) -> Found:
    """Choose settings by results on the records, and pay for the choice: epsilon is of all that was tried.

    A secret number of repetitions each train a candidate drawn at random, on a part of the budget. Each is scored by
    how many records logistic regression on its samples gets right, with noise. The best is released, the rest removed.
    Candidates may differ in what leaves the plan of releases as it is: steps and learning rates of teacher and student,
    networks, samplers, augmentation.
    """
    from dpsad.api.config import Config
    from dpsad.commands.read import read_config
    from dpsad.commands.stages import left_by_stage
    from dpsad.commands.tune import Scoring, run_tuning
    from dpsad.privacy.selection import Selection

    def read(changes: Sequence[str]) -> Config:
        return read_config(config, [*(overrides or []), *changes])

    selection = Selection(repetitions=repetitions, mean=mean)
    run_tuning(tries or [], read, selection=selection, scoring=Scoring(num=num, noise=score_noise), say=tqdm.write)
    return left_by_stage(read(()))


@app.command()
@reporting
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, such as runs/*.")],
    out: Annotated[Path, typer.Option(help="A folder for report.html and the tables; private.")] = Path(
        "runs/comparison"
    ),
) -> Found:
    """Put finished runs side by side: table, privacy-utility curves and samples, on one page."""
    from dpsad.report.comparison import write_comparison

    text = f"{write_comparison(runs, out)}\npage: {out / 'report.html'}"
    facts = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    return Found(text=text, facts={**facts, "page": out / "report.html"})


@app.command()
@reporting
def inspect(
    path: Annotated[Path, typer.Argument(help="A folder or a file of images.")],
    overrides: Overrides = None,
    config: ConfigOption = None,
    out: Annotated[Path | None, typer.Option(help="A .json file for all of it; private.", show_default=False)] = None,
) -> Found:
    """Show what is in a folder or file of images: classes, sizes, what is not read, copies, and a config to begin with.

    It reads records, and what it prints is for their owner alone. It says what of that a run would make public.
    """
    from dpsad.commands.inspect import run_inspect

    return run_inspect(path, overrides or [], config=config, out=out)


@app.command()
@reporting
def auto(
    path: Annotated[Path, typer.Argument(help="A folder or a file of images.")],
    overrides: Overrides = None,
    minutes: Annotated[float, typer.Option(help="That training may take, about.")] = 20.0,
    anyway: Annotated[bool, typer.Option("--anyway", help="Run though classes will be noise.")] = False,
) -> Found:
    """Go from a folder or file of images to a release, its evaluation and a page, by settings from public numbers.

    Settings follow from the number of records as it is stated (by default that of the images, rounded), image size,
    colour, classes, epsilon, delta, minutes and device: numbers that the run makes public, as dpsad inspect says. A
    forecast comes first; where classes would be noise, nothing is released. What you say by key=value is not chosen.
    """
    from dpsad.commands.auto import run_auto

    return run_auto(path, overrides or [], minutes=minutes, anyway=anyway, say=tqdm.write)


@app.command()
@reporting
def account(overrides: Overrides = None, config: ConfigOption = None) -> Found:
    """Print everything that a run will release and what it will cost, before a record is read."""
    from dpsad.api.plan import budget_table
    from dpsad.commands.read import read_config

    budget = budget_table(read_config(config, overrides or []))
    return Found(text=budget.table, facts=budget.facts)


@app.command()
@reporting
def ledger(
    paths: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some, such as runs.")],
    delta: Annotated[
        float | None, typer.Option(help="Of the totals; the smallest of the runs' otherwise.", show_default=False)
    ] = None,
    same_records: Annotated[
        bool, typer.Option("--same-records", help="Add all up, though their records may differ in part.")
    ] = False,
) -> Found:
    """Add up what runs have released of the same records: one epsilon for each set, composed, not summed.

    Runs are of the same records where images and labels are alike to the last bit. Sets that differ in anything, by
    data.limit or data.image_size, say, stand apart though they share records; --same-records adds up all that is given.
    Releases that several runs go on from, such as prototypes in a copied folder, count once.
    """
    from dpsad.commands.ledger import record_sets

    found = record_sets(paths, delta=delta, same_records=same_records)
    return Found(text="\n\n".join(map(str, found)), facts={"sets": [records.to_dict() for records in found]})


@app.command()
@reporting
def presets() -> Found:
    """List the packaged configs, with the command that runs each."""
    from dpsad.runtime.presets import PRESETS

    about = {
        path.stem: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for path in sorted(PRESETS.glob("*.yaml"))
    }
    return Found(text="\n".join(f"{name:24} {said}" for name, said in about.items()), facts={"presets": about})


@app.command()
@reporting
def keys(
    section: Annotated[str, typer.Argument(help="A section or a key, such as privacy; all without.")] = "",
) -> Found:
    """List what a config may say: every key with the values it takes, its default and what it means."""
    from dpsad.commands.keys import keys_of_section

    found = keys_of_section(section)
    return Found(text="\n".join(map(str, found)), facts={"keys": [asdict(key) for key in found]})


@app.command()
def completion(shell: Annotated[str, typer.Argument(help=", ".join(SHELLS))]) -> None:
    """Print a script that completes verbs, options and keys; source it, or put it where the shell looks."""
    require_choice("shell", shell, tuple(SHELLS))
    from dpsad.commands.keys import all_keys
    from dpsad.runtime.presets import PRESETS

    verbs = verbs_of(typer.main.get_command(app))
    presets_there = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    typer.echo(SHELLS[shell](verbs, [key.key for key in all_keys()], presets_there))


@app.command()
@reporting
def quickstart(overrides: Overrides = None) -> Found:
    """Teach, distil, sample and evaluate on the embedded digits: a few minutes on a laptop."""
    from dpsad.commands.quickstart import run_quickstart

    return run_quickstart(overrides or [], tqdm.write)


def main() -> None:
    """Runs a command; errors that a user can mend are one line and exit code 2.

    Of the processes that torchrun started, the first one does alone what is not shared out.
    """
    rank = 0
    try:
        rank = place_here().rank
        if rank == 0 or (sys.argv[1:2] and sys.argv[1] in SHARED):
            app()
    except Exception as error:
        told = message_of(error)
        if told is None:
            raise
        typer.echo(f"error: {f'rank {rank}: ' if rank else ''}{told}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

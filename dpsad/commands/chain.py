"""The whole chain of dp-sad, from records to a page: what `dpsad quickstart` and `dpsad auto` have in common."""

from pathlib import Path

from dpsad.api.config import Config
from dpsad.commands.distill import run_distill
from dpsad.commands.evaluate import evaluate_run, require_measurable
from dpsad.commands.reporting import Found
from dpsad.commands.sample import run_sample
from dpsad.commands.teach import run_teach
from dpsad.report.comparison import write_comparison
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import Run


def run_chain(config: Config, *, num: int, say: Say) -> Found:
    """Teaches, distils, evaluates, samples and writes the page, each unless it is there; returns what to look at.

    Args:
        num: synthetic images that the evaluation's classifiers learn from.
    """
    require_measurable(config)
    run = Run(Path(config.run))
    run_teach(config, say)
    run_distill(config, say)
    result = evaluate_run(config, num=num, seed=0, say=say)
    out = run.path / "samples"
    if not out.exists():
        run_sample(run.path, num=500, out=out, seed=0, label=None, batch_size=250, device=config.device)
    write_comparison([run.path], run.report)
    lines = [
        str(result),
        f"report, private: {run.report / 'report.html'}",
        f"release: {run.release} (start with README.md and samples.png)",
    ]
    facts = {"report": run.report / "report.html", "release": run.release, "evaluation": result.to_dict()}
    return Found(text="\n".join(lines), facts=facts)

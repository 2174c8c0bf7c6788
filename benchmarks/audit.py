"""Ledger against audits of the real code: python benchmarks/audit.py docs/audit.svg [repetitions=20000] [audits=100]

Prints a table of lower bounds, mechanism by mechanism, at epsilon 1 and 4, one-run audits of DP-SGD, audits of what
presets release, and how many of `audits` further audits of one release exceed the ledger; draws the table.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from dpsad.api.plan import budget_plan
from dpsad.attacks.generators import dp_merf_game, gs_wgan_game
from dpsad.attacks.gradient_rows import canary_scores, dp_sgd_game, dp_sgd_plan
from dpsad.attacks.nominal import nominal_game
from dpsad.attacks.prototypes import prototypes_game, shards_game
from dpsad.attacks.release_plans import plans_game
from dpsad.audit.game import CONFIDENCE, Game, audit
from dpsad.audit.one_run import best_guess
from dpsad.audit.result import Finding
from dpsad.commands.audit import finding_line
from dpsad.commands.read import read_config
from dpsad.methods.dp_sad.distillation import StudentConfig
from dpsad.methods.dp_sad.nominal_noise import NominalConfig, nominal_plan
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.report.plots import COLOURS, INK, STYLE, inked

DELTA = 1e-5
EPSILONS = (1.0, 4.0)
PRESETS, NUM_RECORDS = ("mnist", "mnist-epsilon1", "mnist-shards", "mnist-dpdm", "mnist-gs-wgan"), 60_000


def one_release(epsilon: float) -> Game:
    plan = ReleasePlan(purpose="one release", unit=Unit.RECORD, clip_norm=1.0)
    return plans_game(calibrated([plan], epsilon=epsilon, delta=DELTA, records_per_person=1))


def published_loop(epsilon: float) -> Game:
    student = StudentConfig(start="random", steps=50, batch_size=64, learning_rate=2e-3, data_weight=1.0)
    (plan,) = calibrated([nominal_plan(100.0, 0.25, student.steps)], epsilon=epsilon, delta=DELTA, records_per_person=1)
    return nominal_game(plan, NominalConfig(), student)


# name, game, share of the repetitions: some take longer
GAMES: list[tuple[str, Callable[[float], Game], float]] = [
    ("one release", one_release, 20.0),
    ("records: prototypes", lambda epsilon: prototypes_game(epsilon, DELTA), 0.75),
    ("records: DP-SGD", lambda epsilon: dp_sgd_game(dp_sgd_plan(epsilon, DELTA)), 5.0),
    ("records: DP-MERF", lambda epsilon: dp_merf_game(epsilon, DELTA), 4.0),
    ("shards: prototypes", lambda epsilon: shards_game(epsilon, DELTA), 1.0),
    ("shards, sampled: prototypes", lambda epsilon: shards_game(epsilon, DELTA, sampling_prob=0.5), 1.0),
    ("shards, sampled: GS-WGAN", lambda epsilon: gs_wgan_game(epsilon, DELTA), 2.0),
    ("nominal: published loop", published_loop, 0.02),
]


def main() -> None:
    out = Path(sys.argv[1])
    told = dict(text.split("=") for text in sys.argv[2:])
    repetitions, audits = int(told.get("repetitions", 20_000)), int(told.get("audits", 100))
    found: dict[str, list[Finding]] = {}
    print(f"delta {DELTA:g}, confidence {CONFIDENCE}")
    print("| mechanism | epsilon | games in each world | error rates alone | plan's curve | refuted |")
    print("|---|---|---|---|---|---|")
    for name, game, share in GAMES:
        for epsilon in EPSILONS:
            one = audit(game(epsilon), repetitions=int(repetitions * share), delta=DELTA)
            found.setdefault(name, []).append(one)
            claim = f"{'nominal ' if one.nominal else ''}{epsilon:g}"
            bounds = f"{one.epsilon:.2f} | {one.epsilon_of_plans:.2f} | {'REFUTED' if one.refuted else 'no'}"
            print(f"| {name} | {claim} | {one.repetitions:,} | {bounds} |", flush=True)
    out.write_text(picture(found), encoding="utf-8")
    for epsilon in EPSILONS:
        one_run(epsilon)
    for preset in PRESETS:
        plans = budget_plan(read_config(preset, []), NUM_RECORDS)
        print(
            f"{preset}: {finding_line(audit(plans_game(plans), repetitions=repetitions, delta=DELTA))}",
            flush=True,
        )
    again = [audit(one_release(EPSILONS[index % 2]), repetitions=10_000, delta=DELTA) for index in range(audits)]
    most = max(one.audited_epsilon / (one.claimed_epsilon or 1.0) for one in again)
    accused = sum(one.refuted for one in again)
    print(f"{accused} of {audits} audits of one release refuted; the largest bound is {most:.2f} of the ledger's")


def one_run(epsilon: float, num_canaries: int = 1_000) -> None:
    """One run of DP-SGD with many canaries, at 95 %."""
    plan = dp_sgd_plan(epsilon, DELTA, sampling_prob=1.0, steps=10)
    included = torch.rand(num_canaries) < 0.5
    guesses, bound = best_guess(canary_scores(plan, included), included.numpy(), delta=DELTA, confidence=0.95)
    right = f"{guesses.num_correct} of {guesses.num_guesses} guesses right"
    print(
        f"one run of DP-SGD, {num_canaries} canaries, epsilon {epsilon:g}: lower bound {bound:.2f} ({right})",
        flush=True,
    )


def picture(found: dict[str, list[Finding]]) -> str:
    """A line of marks for each mechanism: what is claimed, and what was measured."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.8 + 0.42 * len(found) * 1.2), layout="constrained")
        axes = figure.add_subplot()
        names = list(found)[::-1]
        for row, name in enumerate(names):
            for number, one in enumerate(found[name]):
                y, colour = row + 0.14 - 0.28 * number, COLOURS[1] if one.refuted else COLOURS[0]
                claimed = one.claimed_epsilon or 0.0
                axes.plot([0, one.audited_epsilon], [y, y], color=colour, linewidth=5, solid_capstyle="butt")
                axes.plot([0, one.epsilon], [y, y], color=INK, linewidth=1.2)
                axes.plot([claimed], [y], marker="|", markersize=13, markeredgewidth=2, color=INK, linestyle="none")
        axes.set_yticks(range(len(names)), names)
        axes.set_xscale("symlog", linthresh=5, linscale=2)
        axes.set_xticks([0, 1, 2, 3, 4, 5, 10, 20, 40], ["0", "1", "2", "3", "4", "5", "10", "20", "40"])
        axes.set_xlim(0, 45)
        axes.set_xlabel("epsilon: claimed (upright mark), audited (bar),\nby error rates alone (line); orange: refuted")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return inked(file.getvalue())


if __name__ == "__main__":
    main()

"""What `dpsad audit` does: lower bounds on epsilon for a finished run, beside what its statement claims."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dpsad.api.beforehand import prospect_of, require_feasible
from dpsad.api.config import Config
from dpsad.attacks.nominal import nominal_game
from dpsad.attacks.release_plans import plans_game
from dpsad.audit.game import Game, audit
from dpsad.audit.result import AuditResult, CanaryFinding, Finding, MembershipFinding
from dpsad.commands.shadow_runs import audit_canaries, infer_membership, trainer
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.errors import reading
from dpsad.privacy.plan import ReleasePlan
from dpsad.release.statement_file import read_statement
from dpsad.runtime.device import device_named
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import Run
from dpsad.runtime.whole_files import PRIVATE, write_whole

REPETITIONS, NOMINAL_REPETITIONS = 20_000, 100  # a game of the published loop trains a student


def audit_run(
    config: Config,
    *,
    repetitions: int | None,
    confidence: float,
    canaries: int,
    shadows: int,
    say: Say,
) -> AuditResult:
    """Audits a finished run and writes private/audit.json.

    Args:
        config: of a run that has a release.
        repetitions: games in each world; None takes 20,000, or 100 of the published loop.
        confidence: of each lower bound.
        canaries: how many join one more run of the same config; 0 trains none.
        shadows: runs of the same config on random halves of the records; 0 trains none.
        say: receives a line after each audit.

    Returns:
        What was found.

    Raises:
        ValueError: there is no release, or nothing in it to audit.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"--confidence {confidence:g} must be between 0 and 1, such as 0.999")
    run = Run(Path(config.run))
    if not run.statement.is_file():
        raise ValueError(
            f"{run.path} has no release/privacy.json to audit; finish it with `dpsad distill run={run.path}`"
        )
    statement = read_statement(run.statement)
    delta, nominal = float(statement["delta"]), statement.get("nominal_epsilon") is not None
    claimed = statement["nominal_epsilon"] if nominal else statement["epsilon"]
    claimed = None if claimed == math.inf else claimed
    with reading(run.statement):
        game = game_of(config, statement)
    if game is None and not canaries and not shadows:
        raise ValueError(
            f"{run.path} claims nothing that could be refuted: its epsilon is {claimed}; pass --shadows 8 to measure "
            "what its students tell of records"
        )
    release, canary, membership = None, None, None
    if canaries or shadows:
        train, records = trainer(config, say), load_images(config.data, "train")
        _require_shadows(config, records, shadows)
    if game is not None:
        times = repetitions or (NOMINAL_REPETITIONS if nominal else REPETITIONS)
        release = audit(game, repetitions=times, delta=delta, confidence=confidence)
        say(finding_line(release))
    if canaries:
        canary = audit_canaries(
            train,
            records,
            canaries,
            claimed_epsilon=claimed,
            nominal=nominal,
            delta=delta,
            confidence=confidence,
        )
        say(canary_line(canary))
    if shadows:
        membership = infer_membership(train, records, shadows)
        say(membership_line(membership))
    result = AuditResult(release=release, canaries=canary, membership=membership, privacy=statement)
    run.private.mkdir(mode=0o700, exist_ok=True)
    write_whole(run.audit, json.dumps(result.to_dict(), indent=2) + "\n", PRIVATE)
    return result


def _require_shadows(config: Config, records: ImageSet, shadows: int) -> None:
    """Refuses runs on half of the records that could not be trained, before a game is played."""
    num = len(records) // 2 - 2 * math.isqrt(len(records)) if shadows else len(records)  # a half, at its smallest
    try:
        some, device = records.take(torch.arange(max(1, num))), device_named(config.device)
        require_feasible(prospect_of(config, some, device, Run(Path(config.run))))
    except ValueError as error:
        option = "--shadows" if shadows else "--canaries"
        raise ValueError(f"{option} trains more runs like this one: {error}; or leave {option} out") from None


def audit_lines(result: AuditResult) -> list[str]:
    """A line or two for each audit that was made."""
    lines = [finding_line(result.release)] if result.release else []
    lines += [canary_line(result.canaries)] if result.canaries else []
    return [*lines, membership_line(result.membership)] if result.membership else lines


def game_of(config: Config, statement: Mapping[str, Any]) -> Game | None:
    """The run's own releases as its ledger was charged with them, or the published loop; None without any claim."""
    nominal = statement.get("nominal_events")
    plans = [ReleasePlan.from_dict({"purpose": "release", **event}) for event in nominal or statement["events"]]
    if not plans or not all(plan.noise_multiplier for plan in plans):
        return None
    return nominal_game(plans[0], config.nominal, config.student) if nominal else plans_game(plans)


def finding_line(found: Finding) -> str:
    """Such as "the ledger says epsilon 9.992; measured lower bound 8.6"."""
    who = "the nominal epsilon is" if found.nominal else "the ledger says epsilon"
    line = (
        f"{found.what}: {who} {found.claimed_epsilon:.3f}; measured lower bound {found.audited_epsilon:.3f} "
        f"({found.epsilon:.3f} without any assumption; {found.repetitions:,} repetitions, "
        f"{100 * found.confidence:g} % confidence, {found.seconds:.0f} s)"
    )
    return line + (f"\nREFUTED: {found.what} shows more of a record than this epsilon allows" if found.refuted else "")


def canary_line(found: CanaryFinding) -> str:
    """One line, and another where the claim is refuted."""
    line = (
        f"one run, {found.num_canaries} canaries: measured lower bound {found.epsilon:.3f} ({found.num_correct} of "
        f"{found.num_guesses} guesses right, by {found.score}; {100 * found.confidence:g} % confidence, "
        f"{found.seconds:.0f} s)"
    )
    return line + ("\nREFUTED: canaries are told apart more often than this epsilon allows" if found.refuted else "")


def membership_line(found: MembershipFinding) -> str:
    """How many members are found at which false-positive rates."""
    rates = ", ".join(
        f"{100 * value:.2f} % at {100 * float(rate):g} % false positives"
        for rate, value in found.true_positive_rates.items()
    )
    return (
        f"membership, {found.num_shadows} shadow runs: members found {rates}; area under the curve {found.area:.4f} "
        f"(by {found.score}, {found.seconds:.0f} s)"
    )

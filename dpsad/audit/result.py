"""AuditResult: what audits of a run have found, written to its private/audit.json and read from there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Lower bounds on epsilon from games of two worlds, beside what is claimed.

    Attributes:
        what: what was played.
        claimed_epsilon: of the ledger, or nominal; None where nothing is claimed.
        nominal: whether that claim is no guarantee.
        delta: of the bounds.
        confidence: that both bounds, and the alarm, are right.
        repetitions: games in each world.
        epsilon: lower bound by error rates alone, without any assumption on the mechanism.
        epsilon_of_plans: lower bound for a mechanism that is the planned one up to a factor on its noise.
        refuted: whether errors were smaller than the claim allows, which assumes nothing about the mechanism.
        false_positive, false_negative: upper bounds that `epsilon_of_plans` comes from.
        seconds: wall time.
    """

    what: str
    claimed_epsilon: float | None
    nominal: bool
    delta: float
    confidence: float
    repetitions: int
    epsilon: float
    epsilon_of_plans: float
    refuted: bool
    false_positive: float
    false_negative: float
    seconds: float

    @property
    def audited_epsilon(self) -> float:
        """The larger of both bounds."""
        return max(self.epsilon, self.epsilon_of_plans)


@dataclass(frozen=True, kw_only=True)
class CanaryFinding:
    """A lower bound on epsilon from one training run with many canaries.

    Attributes:
        claimed_epsilon, nominal, delta, confidence: as for `Finding`.
        num_canaries: each was in the run with probability one half.
        num_guesses, num_correct: for the guesses that gave the bound.
        epsilon: the bound; it assumes nothing.
        refuted: whether it exceeds the claim.
        score: what canaries were told apart by.
        seconds: wall time, training included.
    """

    claimed_epsilon: float | None
    nominal: bool
    delta: float
    confidence: float
    num_canaries: int
    num_guesses: int
    num_correct: int
    epsilon: float
    refuted: bool
    score: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MembershipFinding:
    """How well members are told from others by likelihood ratios over shadow runs. No bound on anything.

    Attributes:
        num_shadows: runs, each on a random half of the records; each is attacked with the help of all others.
        num_records: that were attacked.
        area: under the ROC curve; one half is chance.
        true_positive_rates: by false-positive rate, as text such as "0.01".
        score: what runs were asked about a record.
        seconds: wall time, training included.
    """

    num_shadows: int
    num_records: int
    area: float
    true_positive_rates: Mapping[str, float]
    score: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """All audits of a run. Canaries and membership were measured on records: private, and covered by no guarantee.

    Attributes:
        release: of the run's own release plan, through the sanitizer; or of the published loop, where nominal.
        canaries, membership: None where not asked for.
        privacy: the privacy statement that was audited.
    """

    release: Finding | None = None
    canaries: CanaryFinding | None = None
    membership: MembershipFinding | None = None
    privacy: Mapping[str, Any] | None = None

    @property
    def epsilon(self) -> float | None:
        """The largest lower bound; None where none was sought."""
        bounds = [self.release.audited_epsilon] if self.release else []
        bounds += [self.canaries.epsilon] if self.canaries else []
        return max(bounds, default=None)

    @property
    def refuted(self) -> bool:
        """Whether any audit contradicts what is claimed."""
        return any(found.refuted for found in (self.release, self.canaries) if found is not None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "AuditResult":
        """Takes up what `to_dict` gave.

        Raises:
            KeyError, TypeError, AttributeError: it is something else.
        """
        kinds = {"release": Finding, "canaries": CanaryFinding, "membership": MembershipFinding}
        parts = {key: kind(**values[key]) if values.get(key) else None for key, kind in kinds.items()}
        return AuditResult(**parts, privacy=values.get("privacy"))

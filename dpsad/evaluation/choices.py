"""Names of classifiers, metrics and protocols. It imports nothing heavy: commands say what they take without it."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["logistic", "mlp", "cnn", "wrn-40-4", "resnext-29", "resnet-110"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS: tuple[Kind, ...] = ("logistic", "mlp", "cnn")  # the others want a GPU
Metric = Literal["kernel", "neighbours"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Judgement = Literal["kernel", "neighbours", "memorisation"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)
LEAST = 2000  # synthetic images that classifiers learn from where nobody says how many
STANDARD_NAME = "inception-v3-fid"  # of the feature space in which a Frechet distance is called FID


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How classifiers are trained on samples. Figures of two protocols do not belong in one table.

    num: synthetic images, at most.
    num_per_real: of these, for each real training image; None takes `num` always.
    epochs: of every classifier; None takes ten, or as many as give 1,000 batches if that is more.
    learning_rate: of Adam; the logistic regression has none.
    """

    num: int
    epochs: int | None
    learning_rate: float
    num_per_real: int | None = None

    def num_for(self, num_real: int) -> int:
        """How many synthetic images stand beside so many real ones."""
        return self.num if self.num_per_real is None else min(self.num, max(LEAST, self.num_per_real * num_real))


PROTOCOLS = {
    "quick": Protocol(num=20_000, epochs=None, learning_rate=1e-3, num_per_real=20),
    # Dockhorn et al. 2023 (DPDM), their train_downstream_classifiers.py; its logistic regression takes Adam, too
    "dpdm": Protocol(num=60_000, epochs=50, learning_rate=3e-4),
}

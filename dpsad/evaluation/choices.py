"""Names of classifiers and metrics. Imports nothing heavy: a command says what it takes without loading it."""

from typing import Literal, get_args

Kind = Literal["logistic", "mlp", "cnn", "wrn-40-4", "resnext-29", "resnet-110"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS: tuple[Kind, ...] = ("logistic", "mlp", "cnn")  # the others want a GPU
Metric = Literal["kernel", "neighbours"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Judgement = Literal["kernel", "neighbours", "memorisation"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)
STANDARD_NAME = "inception-v3-fid"  # of the feature space in which a Frechet distance is called FID

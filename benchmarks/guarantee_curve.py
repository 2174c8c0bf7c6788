"""Accuracy against epsilon, guarantee by guarantee: python benchmarks/guarantee_curve.py docs/guarantees.svg runs/...

Draws the CNN's curve of runs that are evaluated, all of one data set, as `dpsad compare` does, and prints its points.
"""

import sys
from pathlib import Path

from dpsad.report.groups import group_by_data
from dpsad.report.plots import curves
from dpsad.report.reading import read_runs


def main() -> None:
    out, *folders = map(Path, sys.argv[1:])
    results, left_out = read_runs(folders)
    if left_out:
        raise SystemExit("\n".join(left_out))
    (group,) = group_by_data(results)
    curve = next(curve for curve in curves(group) if "cnn" in curve.title)
    out.write_text(curve.svg, encoding="utf-8")
    print(curve.alt)


if __name__ == "__main__":
    main()

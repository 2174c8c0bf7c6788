import csv
import io

import numpy as np
from PIL import Image

from dpsad.report.ablation import Row, plot, to_csv, to_markdown

ROWS = [
    Row(setting="0", accuracy=0.91234, frechet=123.4, epsilon=9.99, delta=1e-5, formal=True, seconds=12.6),
    Row(setting="a, b", frechet=98.0, epsilon=9.5, delta=1e-5, formal=False, seconds=3.0, note="no labels"),
    Row(setting="2", note="a cell | that\nfailed"),
]


def test_csv_holds_every_figure_in_full():
    read = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert [row["setting"] for row in read] == ["0", "a, b", "2"]
    assert float(read[0]["accuracy"]) == 0.91234
    assert [row["formal"] for row in read] == ["True", "False", ""]
    assert read[2]["note"] == "a cell | that\nfailed"


def test_markdown_is_one_table_that_marks_what_is_not_formal():
    page = to_markdown("lambda", "what it does", "weight", ROWS)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table[2] == "| 0 | 0.9123 | 123.4 | 9.99 | yes | 13 s |  |"
    assert table[3] == "| a, b |  | 98 | 9.5 | **no** | 3 s | no labels |"
    assert table[4] == "| 2 |  |  |  |  |  | a cell \\| that failed |"
    assert "NO formal guarantee" in page
    assert "keep it in private/" in page
    assert "choosing a setting by this table" in page
    assert "NO formal guarantee" not in to_markdown("lambda", "what it does", "weight", ROWS[:1])


def test_the_plot_shows_formal_points_filled_and_others_hollow(tmp_path):
    def blue(formal):
        rows = [Row(setting=str(place), accuracy=0.5, frechet=1.0, formal=formal) for place in range(3)]
        plot("lambda", "weight", [*rows, Row(setting="failed")], tmp_path / "plot.png")
        pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)
        return int((pixels[..., 2] - pixels[..., 0] > 80).sum())

    assert blue(True) > 2 * blue(False) > 0

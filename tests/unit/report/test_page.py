from collections import Counter
from html.parser import HTMLParser

from dpsad.report.groups import group_by_data
from dpsad.report.page import page
from dpsad.report.reading import read_runs

HOSTILE = "</script></style><script>alert(1)</script><img src=http://example.org/x onerror=alert(1)>\"'&`${x}"


def page_of(*folders):
    results, left_out = read_runs(folders)
    return page(group_by_data(results), left_out)


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_everything_that_comes_from_a_run_is_escaped(make_run, tmp_path):
    folder = make_run(
        "run<b>",
        formal=False,
        class_names=(HOSTILE, "one", "two"),
        data={"name": HOSTILE},
        config={"method": HOSTILE, HOSTILE: HOSTILE},
        statement={"adjacency": HOSTILE, "reasons": [HOSTILE], "unit": [HOSTILE], "guarantee": HOSTILE},
        measured={
            "student": {
                "classifiers": {HOSTILE: {"accuracy": 0.5, "per_class_accuracy": [0.5, None, 1.0]}},
                "frechet": 1.0,
                "num_images": 1,
                "num_frechet_images": 1,
            },
            "features": {"name": HOSTILE, "fingerprint": HOSTILE},
            "hardware": HOSTILE,
        },
        seconds=[],
    )
    html = page_of(
        folder,
        make_run("b", data={"name": HOSTILE}, config={HOSTILE: 1}, class_names=(HOSTILE, "one", "two")),
        tmp_path / HOSTILE.replace("/", ""),
    )
    assert "example.org" in html, "the text itself is there"
    elements = Elements(html).found
    assert Counter(tag for tag, _ in elements)["script"] == 1
    assert {tag for tag, _ in elements} <= {
        "html", "head", "meta", "title", "link", "style", "body", "a", "header", "h1", "h2", "h3", "p", "strong",
        "main", "section", "small", "div", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "button", "span",
        "figure", "figcaption", "img", "dl", "dt", "dd", "footer", "code", "script",
    }  # fmt: skip
    assert not any(name.startswith("on") or name == "style" for _, attributes in elements for name in attributes)
    assert len([1 for tag, _ in elements if tag == "table"]) == 5


def test_the_page_asks_for_nothing_else(make_run):
    elements = Elements(page_of(make_run("a"), make_run("b", data={"name": "FashionMNIST"}))).found
    sources = [value for _, found in elements for name, value in found.items() if name in ("src", "href", "srcset")]
    assert len(sources) > 5
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert any("default-src 'none'" in (found.get("content") or "") for _, found in elements)
    names = [found["id"] for _, found in elements if "id" in found]
    assert len(names) == len(set(names))
    assert all(found.get("alt") for tag, found in elements if tag == "img")


def test_runs_that_are_not_formal_stand_apart_in_words(make_run):
    html = page_of(make_run("good"), make_run("nominal", formal=False))
    table = html[html.index('<table class="results"') : html.index('class="samples"')]
    head, _, tail = table.partition('<tbody class="not-formal">')
    assert 'data-order="good"' in head
    assert 'data-order="nominal"' in tail
    assert "NOT formal: the epsilon of these runs is nominal, and nothing is guaranteed" in tail
    assert "nominal 10.000" in tail
    assert "NOT formal" not in head
    assert 'class="badge">NOT formal' in html
    assert "nominal, NOT formal</th><td>nominal 10.000</td>" in html


def test_a_student_without_labels_is_not_shown_as_if_it_had_classes(make_run):
    html = page_of(make_run("a"), make_run("b", release={"use_labels": False}))
    assert html.count("a column is no class") == 1
    assert "b (made without labels" in html


def test_ten_runs_of_large_images_fit_in_five_megabytes(make_run):
    names = tuple(map(str, range(10)))
    folders = [make_run(f"r{number}", class_names=names, image_shape=(3, 64, 64)) for number in range(10)]
    html = page_of(*folders)
    assert 500_000 < len(html.encode()) < 5_000_000

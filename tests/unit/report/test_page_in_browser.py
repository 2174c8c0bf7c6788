"""The page as a browser has it: headless Chromium opens the file from disk."""

import json
import shutil

import pytest

from dpsad.report.comparison import write_comparison

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with chromedriver here; apt-get install chromium chromium-driver"
)
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium here; pip install selenium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, make_run, tmp_path):
    """(width=1280, scheme="light") -> the browser with a page of two data sets, one hostile name and no evaluation."""
    write_comparison(
        [
            make_run("b-two", epsilon=2.0, accuracy=0.8),
            make_run("a-ten", epsilon=10.0, accuracy=0.9, frechet=400.0),
            make_run("a-run-of-a-rather-long-name-that-has-to-go-somewhere", epsilon=0.5, accuracy=0.7),
            make_run("unmeasured", epsilon=5.0, accuracy=None),
            make_run("paper-10", formal=False, epsilon=10.0, accuracy=0.95),
            make_run("paper-1", formal=False, epsilon=1.0, accuracy=0.6),
            make_run("<img src=x>", data={"name": "<script>alert(1)</script>"}, class_names=("<b>", "y", "z")),
        ],
        tmp_path / "out",
    )

    def open_page(width=1280, scheme="light"):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme_feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_feature)
        for kind in ("performance", "browser"):
            browser.get_log(kind)
        browser.get((tmp_path / "out" / "report.html").as_uri())
        return browser

    return open_page


def rows_of(browser, body):
    script = (
        "return [...document.querySelector('table.results').tBodies[arguments[0]].rows].map(r => r.cells[0].innerText)"
    )
    return browser.execute_script(script, body)


def button(browser, text):
    (found,) = [each for each in browser.find_elements("css selector", "table.results")[0].find_elements(
        "css selector", "thead button") if each.text.startswith(text)]  # fmt: skip
    return found


def sort_states(browser):
    script = "return [...document.querySelectorAll('table.results')[0].tHead.rows[0].cells].map(c => c.ariaSort)"
    return [state for state in browser.execute_script(script) if state]


def test_it_opens_without_requests_or_complaints_and_every_image_decodes(opened):
    browser = opened()
    widths = browser.execute_script("return [...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(widths) > 20
    assert all(widths)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith("data:")] == [browser.current_url]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0


def test_a_heading_sorts_both_ways_by_mouse_and_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    long_name = "a-run-of-a-rather-long-name-that-has-to-go-somewhere"
    assert sort_states(browser) == []
    button(browser, "accuracy, cnn").click()
    assert sort_states(browser) == ["ascending"]
    assert rows_of(browser, 0) == [long_name, "b-two", "a-ten", "unmeasured"]
    assert rows_of(browser, 1)[1:] == ["paper-1", "paper-10"]
    button(browser, "accuracy, cnn").send_keys(Keys.ENTER)
    assert sort_states(browser) == ["descending"]
    assert rows_of(browser, 0) == ["a-ten", "b-two", long_name, "unmeasured"], "a missing value stays last"
    assert rows_of(browser, 1)[1:] == ["paper-10", "paper-1"]
    assert rows_of(browser, 1)[0].startswith("NOT formal"), "and formal runs apart"
    button(browser, "run").send_keys(Keys.SPACE)
    assert sort_states(browser) == ["ascending"]
    assert rows_of(browser, 0) == [long_name, "a-ten", "b-two", "unmeasured"]


def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened):
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    focused = []
    for _ in range(7):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        focused.append((active.tag_name, active.value_of_css_property("outline-style")))
    assert [tag for tag, _ in focused] == ["a", "div", "div", "button", "button", "button", "button"]
    assert all(style == "solid" for _, style in focused)
    skip = browser.find_element("css selector", ".skip")
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "results"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(opened, width):
    browser = opened(width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        "return [...document.images].filter(i => i.classList.contains('curve')).map(i => i.width)"
    )
    assert wide
    assert all(200 < each <= width for each in wide)


def test_a_phone_shows_epsilon_and_accuracy_of_each_run_without_a_swipe(opened):
    browser = opened(390)
    script = """
        return [...document.querySelectorAll('table.results, h3[id^=glance] + .wide table')].map(table => {
            const heads = [...table.tHead.rows[0].cells];
            return heads.filter(head => head.getBoundingClientRect().right <= 390).map(head => head.innerText.trim());
        });
    """
    shown = browser.execute_script(script)
    assert len(shown) == 4, "a table of runs and one at a glance, for each of two data sets"
    for heads in shown:
        assert any(head.startswith("epsilon") for head in heads)
        assert any(head.startswith("accuracy") for head in heads)


def test_text_stands_out_in_light_and_dark(opened):
    script = """
        const rgb = (css) => css.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const light = (css) => { const [r, g, b] = rgb(css); return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
        const behind = (element) => {
            for (let each = element; each; each = each.parentElement) {
                const colour = getComputedStyle(each).backgroundColor;
                if (!colour.startsWith('rgba(0, 0, 0, 0')) return colour;
            }
            return 'rgb(255, 255, 255)';
        };
        return [...document.querySelectorAll('body *')].filter(e => e.innerText && !e.matches('script, style'))
            .map(e => [light(getComputedStyle(e).color), light(behind(e)), e.outerHTML.slice(0, 60)])
            .map(([a, b, what]) => [Math.max(a, b) / Math.min(a, b), what]);
    """
    pages = {}
    for scheme in ("light", "dark"):
        browser = opened(scheme=scheme)
        pages[scheme] = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        contrasts = browser.execute_script(script)
        assert len(contrasts) > 50
        assert [pair for pair in contrasts if pair[0] < 4.5] == [], f"below WCAG's 4.5 in {scheme}"
    assert pages["light"] != pages["dark"]

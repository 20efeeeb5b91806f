import shutil

import pytest
from fake_run import fake_run

from fedjourney.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    one = fake_run(folder / "one", rounds=12, name="a-rather-long-name-of-an-experiment-without-a-space-in-it" * 2)
    two = fake_run(folder / "two", rounds=8, clients=300, update="proximal")
    return {"dots": write_report([one]), "histogram": write_report([two]), "both": write_report([one, two])}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["dots", "histogram", "both"])
def test_the_page_opens_offline_and_fits(browser, pages, kind, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    said, asked = [], []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[kind].as_uri())
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # Labels end inside their chart.
    outside = page.evaluate(
        """() => [...document.querySelectorAll("svg text")].filter(text => {
          const box = text.getBoundingClientRect(), svg = text.ownerSVGElement.getBoundingClientRect();
          return box.left < svg.left - 1 || box.right > svg.right + 1 || box.bottom > svg.bottom + 1;
        }).map(text => text.textContent)"""
    )
    assert outside == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(background[4:].split(",")[0]) < 60) == (scheme == "dark")
    chart = page.locator("svg[data-hover]").first
    chart.scroll_into_view_if_needed()
    chart.hover()
    tip = page.locator(".tip:visible")
    assert tip.count() == 1
    assert tip.inner_text().startswith("round ")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    context.close()

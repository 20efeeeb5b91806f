import shutil
from pathlib import Path
from typing import Any

import pytest
from written import Make, claim, results

from fedjourney.comparison import claims
from fedjourney.comparison.page import page_of

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_offline_and_fits(
    tmp_path: Path,
    tables: dict[str, Any],
    make: Make,
    width: int,
    scheme: str,
) -> None:
    from playwright.sync_api import sync_playwright

    tables["claim"] = [claim("greater", 0.02), claim("less", 0.0), claim("equal", 0.03)]
    for number in range(9):  # more arms than colours, with long names
        tables["arms"][f"one-more-arm-with-a-name-without-end-{number}"] = {}
    ends = {arm: [0.5 + 0.02 * place, 0.52, 0.55] for place, arm in enumerate(tables["arms"])}
    found = results(tables, make, ends)
    page = tmp_path / "comparison.html"
    page.write_text(page_of(found, claims.judge(found)))
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        opened, said, asked = context.new_page(), [], []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(page.as_uri())
        for summary in opened.locator("summary").all():
            summary.click()
        assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        outside = opened.evaluate(
            """() => [...document.querySelectorAll("svg text")].filter(text => {
              const box = text.getBoundingClientRect(), svg = text.ownerSVGElement.getBoundingClientRect();
              return box.left < svg.left - 1 || box.right > svg.right + 1 || box.bottom > svg.bottom + 1;
            }).map(text => text.textContent)"""
        )
        assert outside == []
        assert opened.locator("svg[data-hover]").count() == 6
        assert said == []
        assert asked == [page.as_uri()]
        browser.close()

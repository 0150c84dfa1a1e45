"""The agent's web page in a real browser: endpoints appear, a click shows one, two clicks trace a packet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser
from tests.e2e.conftest import World
from tools.lab import run


@pytest.fixture
def browser(world: World, tmp_path: Path) -> Iterator[Browser]:
    fixture = Browser(world.command("h1", "chromium"), tmp_path)
    try:
        fixture.open(f"http://{world.plan.hosts[0].management}:9999/ui")
        yield fixture
    finally:
        fixture.close()


def end(key: str) -> str:
    return f"document.querySelector('[data-endpoint=\"{key}\"]')"


def click(key: str) -> str:
    return f"{end(key)}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))"


def test_an_endpoint_appears_and_goes(world: World, browser: Browser) -> None:
    browser.wait(f"{end('amber/web')} !== null")
    assert browser.run(f"{end('amber/late')} === null")
    loaded = browser.run("performance.timeOrigin")
    with world.temporary("late", "h3", "amber"):
        browser.wait(f"{end('amber/late')} !== null")
        assert browser.run(f"{end('amber/late')}.closest('[data-host]').dataset.host") == "h3"
        browser.wait("document.querySelector('[data-tunnel=\"h1 h3\"]') !== null")
    browser.wait(f"{end('amber/late')} === null")
    assert browser.run("performance.timeOrigin") == loaded  # the same page all the time
    assert browser.complaints == []


def test_clicks_show_an_endpoint_and_trace_between_two(world: World, browser: Browser) -> None:
    browser.wait(f"{end('amber/web')} !== null")
    browser.run(click("amber/web"))
    browser.wait("document.getElementById('about-fields').innerText.includes('packets sent')")
    shown = browser.run("document.getElementById('about-fields').innerText")
    assert world.address["web"] in shown
    assert world.mac["web"] in shown
    assert "not its own" in shown
    assert "Choose an endpoint" in browser.run("document.getElementById('hint').innerText")
    browser.run("search('amber/db'); 1")
    assert browser.run("[...document.querySelectorAll('[data-endpoint]')].map((e) => e.dataset.endpoint).join()") == "amber/db"
    browser.run("search(''); 1")
    browser.run(click("amber/db"))
    browser.wait("document.getElementById('about-fields').innerText.includes('delivered')")
    assert "FORWARD" in browser.run("document.getElementById('about-text').innerText")
    browser.run("document.querySelector('#networks button').click()")
    assert browser.run(f"{end('blue/red')}.classList.contains('faded')")
    assert browser.complaints == []


def test_a_name_with_html_is_shown_as_text(world: World, browser: Browser) -> None:
    browser.wait(f"{end('amber/web')} !== null")
    browser.run("panel('<img src=x onerror=alert(1)>', [['<b>a</b>', '<script>1</script>']], '<i>', '<u>')")
    assert browser.run("document.querySelectorAll('#about img, #about b, #about i, #about u, #about script').length") == 0


def test_when_the_agent_goes_the_page_says_so_and_comes_back(world: World, browser: Browser) -> None:
    browser.wait(f"{end('amber/web')} !== null")
    run.stop(world.plan, "h1", "agent")
    browser.wait("document.getElementById('trouble').textContent.includes('does not answer')")
    assert browser.run(f"{end('amber/web')} !== null")  # what was known stays
    run.start(world.plan, "h1", "agent")
    browser.wait("document.getElementById('trouble').textContent === ''")


def test_the_reference_of_the_api_is_drawn_and_searched(world: World, tmp_path: Path) -> None:
    browser = Browser(world.command("h1", "chromium"), tmp_path)
    try:
        browser.open(f"http://{world.plan.hosts[0].management}:9999/docs")
        routes = browser.wait("Number(document.body?.dataset.routes || 0)")
        assert routes > 40
        shown = browser.run("document.body.innerText")
        assert all(text in shown for text in ("/networks/{ref}", "vxlan_vni", "application/yaml", "503"))
        browser.run("$('search').value = 'post ct_limit'; search()")
        assert browser.run("[...document.querySelectorAll('section')].filter((s) => !s.hidden).length") == 1
        assert browser.complaints == []
    finally:
        browser.close()

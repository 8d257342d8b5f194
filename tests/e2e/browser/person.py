"""What a person does in a browser: finds things by the words on them, waits until they are there, and looks."""

from __future__ import annotations

import base64
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.patience import PATIENCE

T = TypeVar("T")

BROWSERS = ("chromium", "google-chrome", "chromium-browser")
WIDTH, HEIGHT = 1240, 1400
MARGIN = 24
_SECONDS = PATIENCE
_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 10.0
_NAMED = (
    "//*[self::a or self::button or @role='tab' or @role='menuitem' or @role='option']"
    "[normalize-space()='{name}' or .//h3[normalize-space()='{name}']]"
)
_MOVES = (ElementClickInterceptedException, ElementNotInteractableException, StaleElementReferenceException)


def programs(path: str | None = None) -> tuple[str, str]:
    """The browser and its driver, from `path` if it is given, else from PATH; the test fails without them."""
    browser = next(filter(None, (shutil.which(name, path=path) for name in BROWSERS)), None)
    driver = shutil.which("chromedriver", path=path)
    if browser is None or driver is None:
        missing = " and ".join(name for name, found in (("chromium", browser), ("chromedriver", driver)) if not found)
        pytest.fail(
            f"no {missing}, to look at real pages with: apt-get install chromium chromium-driver", pytrace=False
        )
    return browser, driver


def open_browser(draws: bool) -> webdriver.Chrome:
    """A headless browser that reaches this machine's own servers alone. Nothing is downloaded for it.

    Args:
        draws: whether it draws the timelines of runs; without a GPU that takes most of two cores.
    """
    browser, driver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        # Root cannot have one, and needs none for pages of a server of its own.
        "--no-sandbox",
        # In containers it is too small for a page.
        "--disable-dev-shm-usage",
        *(() if draws else ("--disable-3d-apis",)),
        "--hide-scrollbars",
        # Prefect's pages call home when they are opened.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--window-size={WIDTH},{HEIGHT}",
    ):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@dataclass(frozen=True)
class Person:
    """Somebody at a browser.

    site: where the pages are, http://host:port.
    albums: folders that pictures go to.
    """

    driver: webdriver.Chrome
    site: str
    albums: tuple[Path, ...]

    def go(self, path: str) -> None:
        self.driver.get(self.site + path)

    def log_in(self, login: str) -> None:
        """Open the pages, which ask for user and password at first, with a colon between them."""
        self.go("/")
        self.search("admin:pass", login)
        self.press("Login")

    @property
    def address(self) -> str:
        return self.driver.current_url

    def run_id(self) -> str:
        """Of the flow run whose page is open."""
        return self.address.partition("/flow-run/")[2].partition("?")[0]

    def text(self) -> str:
        """All that the page says."""
        said: str = self.driver.execute_script("return document.body?.innerText ?? ''")
        return said

    def sees(self, *words: str, within: float = _SECONDS) -> None:
        """Wait until the page says all of `words`."""
        self.wait_for(lambda: all(word in self.text() for word in words), " and ".join(map(repr, words)), within)

    def sees_run(self, name: str, state: str, within: float = _SECONDS) -> None:
        """Wait until the page is that run's, and says that it is in `state`."""
        title = f"//*[@data-slot='breadcrumb-page'][normalize-space()='{name}']"
        badge = f"{title}/ancestor::nav/following-sibling::div//*[@data-slot='badge'][normalize-space()='{state}']"
        self.wait_for(lambda: self._one(badge), f"{name} to be {state}", within)

    def press(self, name: str, leading_to: str = "", within: float = _SECONDS) -> None:
        """Press the button, link, tab or choice with that name; the last one, as what opens lies on top.

        Args:
            leading_to: part of the address that a link leads to, where several have the same name.
        """
        self._press(_NAMED.format(name=name), leading_to, repr(name), within)

    def submit(self, button: str, then: str) -> None:
        """Press a form's button, then what follows; a form that stands there for long is submitted again."""
        pressed = -math.inf

        def follows() -> bool:
            nonlocal pressed
            if found := self._shown(_NAMED.format(name=then)):
                found[-1].click()
                return True
            buttons = self._shown(_NAMED.format(name=button))
            if time.monotonic() - pressed > _PATIENCE_SECONDS and buttons and buttons[-1].is_enabled():
                buttons[-1].click()
                pressed = time.monotonic()
            return False

        self.wait_for(follows, f"{then!r} after {button!r}")

    def follow(self, leading_to: str) -> None:
        """Press the first link to such an address, whatever it says."""
        self._press(f"(//a[contains(@href, '{leading_to}')])[1]", "", f"a link to {leading_to}", _SECONDS)

    def search(self, hint: str, words: str) -> None:
        """Write into the search field that shows `hint`."""
        self._with(f"//input[@placeholder='{hint}']", lambda field: field.send_keys(words), f"a field {hint!r}")

    # ----------------------------------------------------------------------------------------------------- forms

    def description(self, label: str) -> str:
        """What a form says below a field's name."""
        return self._with(f"{_label(label)}/following-sibling::p", lambda found: found.text, f"a field {label!r}")

    def choose(self, label: str, *options: str) -> tuple[str, ...]:
        """Choose from a list. Returns all that there was to choose from."""
        self._with(_control(label), lambda found: found.click(), f"a field {label!r}")
        offered = self._settled(lambda: tuple(option.text for option in self._options()), f"choices of {label!r}")
        for option in options:
            self.press(option)

        def closed() -> bool:
            if self._options():
                self.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
                return False
            return True

        self.wait_for(closed, f"the choices of {label!r} to close")
        return offered

    def switch_on(self, label: str) -> None:
        """Switch a switch on that is off."""
        off = f"{_control(label)}[@aria-checked='false']"
        self._with(off, lambda switch: switch.click(), f"a switch {label!r} that is off")

    def write(self, label: str, words: str) -> None:
        """Write into a field."""
        self._with(_control(label), lambda field: field.send_keys(words), f"a field {label!r}")

    # ------------------------------------------------------------------------------------------------------ looks

    def table(self) -> list[list[str]]:
        """The first table of the page, row by row."""
        script = """
            const rows = document.querySelector('table')?.rows ?? [];
            return [...rows].map(row => [...row.cells].map(cell => cell.innerText));
        """
        found: list[list[str]] = self.wait_for(lambda: self.driver.execute_script(script), "a table")
        return found

    def hidden_cells(self) -> list[str]:
        """Cells of the first table that do not fit into what holds them, so that one has to scroll for them."""
        script = """
            const table = document.querySelector('table');
            const hidden = cell => {
                const right = cell.getBoundingClientRect().right;
                for (let box = table.parentElement; box; box = box.parentElement)
                    if (right > box.getBoundingClientRect().right + 1) return true;
                return false;
            };
            return [...table.querySelectorAll('th, td')].filter(hidden).map(cell => cell.textContent);
        """
        found: list[str] = self.driver.execute_script(script)
        return found

    def links(self, around: str) -> list[str]:
        """Where the links lead that stand beside `around`, an XPath."""
        found = self.driver.find_elements(By.XPATH, f"{around}//a")
        return [str(link.get_attribute("href")) for link in found]

    def picture(self, name: str, of: str = "", down_to: str = "") -> None:
        """Keep a picture as `<name>.png`, once the page stands still.

        Args:
            of: XPath of the element that is wanted; the whole width of the page if left out.
            down_to: XPath of the last element that is wanted; all of the window if left out.
        """
        clip = self._clip(of, down_to)
        shot = self._settled(lambda: self._shot(clip), "the page to stand still")
        for album in self.albums:
            album.mkdir(parents=True, exist_ok=True)
            (album / f"{name}.png").write_bytes(base64.b64decode(shot))

    def wait_for(self, look: Callable[[], T | None], what: str, within: float = _SECONDS) -> T:
        """What `look` finds, as soon as it finds anything; the test fails with the page's text if it does not."""
        deadline = time.monotonic() + within
        while True:
            try:
                if found := look():
                    return found
            except _MOVES:
                pass
            if time.monotonic() > deadline:
                (self.albums[0] / "failure.png").write_bytes(self.driver.get_screenshot_as_png())
                pytest.fail(f"waited {within:g} s for {what} on {self.address}, which says:\n{self.text()}")
            time.sleep(_POLL_SECONDS)

    # ------------------------------------------------------------------------------------------------------ inside

    def _settled(self, look: Callable[[], T], what: str) -> T:
        """What `look` finds, once it finds the same twice in a row: pages fill and move little by little."""
        seen: list[T] = []

        def same() -> tuple[T] | None:
            seen.append(look())
            return (seen[-1],) if seen[-1] and seen[-2:-1] == seen[-1:] else None

        return self.wait_for(same, what)[0]

    def _press(self, path: str, leading_to: str, what: str, within: float) -> None:
        def press() -> bool:
            wanted = [each for each in self._shown(path) if leading_to in (each.get_attribute("href") or "")]
            if wanted and wanted[-1].is_enabled():
                wanted[-1].click()
                return True
            return False

        self.wait_for(press, f"{what} to press", within)

    def _with(self, path: str, act: Callable[[WebElement], T], what: str) -> T:
        """What comes of doing something with the first element there; anew if the page moves meanwhile."""

        def done() -> tuple[T] | None:
            found = self._one(path)
            return None if found is None else (act(found),)

        return self.wait_for(done, what)[0]

    def _options(self) -> Sequence[WebElement]:
        return self._shown("//*[@role='option']")

    def _one(self, path: str) -> WebElement | None:
        return next(iter(self._shown(path)), None)

    def _shown(self, path: str) -> list[WebElement]:
        return [each for each in self.driver.find_elements(By.XPATH, path) if each.is_displayed()]

    def _clip(self, of: str, down_to: str) -> dict[str, Any]:
        if of:
            return {**self._with(of, lambda found: found.rect, of), "scale": 1}
        bottom = self.driver.execute_script("return innerHeight")
        if down_to:
            box = self._with(down_to, lambda found: found.rect, down_to)
            bottom = box["y"] + box["height"] + MARGIN
        return {"x": 0, "y": 0, "width": WIDTH, "height": bottom, "scale": 1}

    def _shot(self, clip: dict[str, Any]) -> str:
        wanted = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        shot: str = self.driver.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"]
        return shot


def _control(label: str) -> str:
    return f"//*[@id={_label(label)}/@for]"


def _label(name: str) -> str:
    return f"//label[normalize-space()='{name}' or normalize-space()='{name} (Optional)']"

"""The page as a browser shows it: nothing from elsewhere, nothing cut off, all of it legible, on a desk and a phone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import pytest

from attnconf.report.compose import compose
from attnconf.report.page import render_page
from attnconf.report.speed_rows import speed_reports
from attnconf.running.judge import NotJudged
from conformance.tests.support import browser
from conformance.tests.support.receipts import (
    CASE,
    H200,
    LENIENT,
    POLICY,
    a_cell,
    a_failure,
    a_receipt,
    everything,
    excused,
    proven,
)
from conformance.tests.support.simulated_clock import SimulatedClock
from conformance.tests.support.speed_receipts import recorded, speed_cell, speed_receipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.gate.receipt import Receipt
    from attnconf.policy.policy import Policy

DESK, PHONE = 1280, 390

LEGIBILITY = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((x) => x / 255);
  };
  const over = (top, bottom) => [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3])).concat(1);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grounds = (element) => {  // every colour that may lie behind the element's text
    if (!element) return [[1, 1, 1, 1]];
    const style = getComputedStyle(element);
    const stops = style.backgroundImage.match(/(?:rgba?|color)\\([^()]*\\)/g);
    const own = (stops || [style.backgroundColor]).map(rgba);
    if (own.every((c) => c[3] === 1)) return own;
    return grounds(element.parentElement).flatMap((below) => own.map((top) => over(top, below)));
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const says = [...element.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
    if (!says.length || !element.checkVisibility() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const opacity = Number(style.opacity);
    const ratios = grounds(element).map((ground) => {
      const text = rgba(style.color); text[3] *= opacity;
      const [a, b] = [light(over(text, ground)), light(ground)].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    });
    const box = element.getBoundingClientRect();
    found.push({
      text: says[0].data.trim().slice(0, 40), contrast: Math.min(...ratios), size: parseFloat(style.fontSize),
      right: box.right, left: box.left,
      cut: element.scrollWidth > element.clientWidth + 1 && style.display !== "inline",
    });
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """Start one browser for all tests."""
    with browser.Browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


class Look(Protocol):
    """Shows the page of receipts, and returns the browser that does."""

    def __call__(
        self, *receipts: Receipt, width: int = ..., dark: bool = ..., policy: Policy = ...
    ) -> browser.Browser: ...


@pytest.fixture
def look(chromium: browser.Browser, tmp_path: Path) -> Look:
    """Return a function that shows the page of receipts in the browser."""

    def _look(*receipts: Receipt, width: int = DESK, dark: bool = False, policy: Policy = POLICY) -> browser.Browser:
        page = tmp_path / "page.html"
        named = {f"r{index}.json": receipt for index, receipt in enumerate(receipts)}
        page.write_text(render_page(compose(named, policy)), encoding="utf-8")
        chromium.requests.clear()
        chromium.complaints.clear()
        chromium.open(page, width=width, dark=dark)
        assert chromium.requests == [page.as_uri()], "the page asks for something that is not in it"
        assert chromium.complaints == []
        return chromium

    return _look


def text_of(shown: browser.Browser, selector: str) -> list[str]:
    """Return the rendered text of every element of a selector."""
    found: list[str] = shown.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")
    return found


def assert_legible(shown: browser.Browser, width: int) -> int:
    """Hold every text against its ground and the window; return how many there are."""
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    found = shown.evaluate(LEGIBILITY)
    assert [one for one in found if one["contrast"] < 4.5] == []
    assert [one for one in found if one["size"] < 10] == []
    assert [one for one in found if one["cut"] or one["right"] > width or one["left"] < 0] == []
    return len(found)


def tops(shown: browser.Browser, *selectors: str) -> list[float]:
    """Return where the first element of each selector begins."""
    expression = f"{json.dumps(selectors)}.map((s) => document.querySelector(s).getBoundingClientRect().top)"
    found: list[float] = shown.evaluate(expression)
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE, 320])
def test_everything_is_legible_and_nothing_is_cut_off(look: Look, width: int, dark: bool) -> None:  # noqa: FBT001 - a parameter
    many = a_receipt(*proven(), a_cell("torch_sdpa", passed=12_345), where=H200)
    shown = look(everything(), many, width=width, dark=dark)
    shown.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert assert_legible(shown, width) > 100
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background.removeprefix("rgb(").rstrip(")").split(","))) < 200) == dark


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE, 320])
def test_ratios_of_speed_are_legible(
    chromium: browser.Browser,
    tmp_path: Path,
    width: int,
    dark: bool,  # noqa: FBT001 - a parameter
) -> None:
    page = tmp_path / "page.html"
    void = speed_receipt(speed_cell(control=SimulatedClock(speedup=1.04).blocks(3)))
    speeds = speed_reports({"speed.json": recorded(), "void.json": void})
    page.write_text(render_page(compose({"r.json": recorded().correctness}), speeds), encoding="utf-8")
    chromium.complaints.clear()
    chromium.open(page, width=width, dark=dark)
    chromium.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert assert_legible(chromium, width) > 60
    assert chromium.complaints == []
    assert text_of(chromium, ".forest .verdict") == ["faster", "slower", "no difference", "faster"]
    spans = chromium.evaluate(
        "[...document.querySelectorAll('.forest-line')].map((line) => [line, ...line.children].map((e) =>"
        " { const box = e.getBoundingClientRect(); return [box.left, box.right]; }))"
    )
    for (left, right), *marks in spans:
        assert all(left <= start <= end <= right for start, end in marks)


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_the_verdict_and_what_is_not_met_come_first(look: Look, width: int) -> None:
    shown = look(everything(), width=width)
    order = tops(shown, "h1", "#unmet", "#failures", ".site")
    assert order == sorted(order)
    assert order[1] < 400
    assert text_of(shown, "h1") == ["4 layers broken and 2 requirements not met"]
    assert text_of(shown, "p .pill")[0] == "NOT MET"
    (unmet,) = text_of(shown, "#unmet li")
    assert "2 triton cells are not proven" in unmet
    assert "full decode, full extend" in unmet


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_what_is_let_pass_follows_what_is_not_met(look: Look, width: int, dark: bool) -> None:  # noqa: FBT001 - a parameter
    shown = look(excused(exit_status=2), width=width, dark=dark, policy=LENIENT)
    order = tops(shown, "h1", "#unmet", "#excused", ".site")
    assert order == sorted(order)
    assert text_of(shown, "#excused h3") == [
        "Waived",
        "Unsupported",
        "Notes",
        "Claims",
    ]
    waived, allowed, remark, claim = text_of(shown, "#excused li")
    assert "under the waiver of owner/repository#7 (kernels, until 2999-01-01)" in waived
    assert "sliding extend, full extend" in waived
    assert "is declared unsupported, as the policy allows: never asked" in allowed
    assert "owner/repository#8 (kernels, until 2999-01-01) selects no required cell" in remark
    assert "gains 5 % or more in speed over triton" in claim
    assert text_of(shown, "td[data-name='exit status']") == ["2"]
    assert_legible(shown, width)


def test_the_heatmap_shows_each_kind_of_square_in_its_own_way(look: Look) -> None:
    shown = look(everything())
    squares = {
        kind: text_of(shown, f"td.{kind}") for kind in ("kernel", "contract", "broken", "not_run", "unsupported")
    }
    assert sorted(squares["kernel"]) == ["3\n0.45", "3\n0.45", "40\n0.98"]
    assert squares["contract"] == ["4c\n0.45"]
    assert sorted(squares["broken"]) == ["1 bad", "1 bad\n\u221e", "2 bad\n21979"]
    assert squares["not_run"] == squares["unsupported"] == ["a"]
    looks = shown.evaluate(
        """["kernel", "contract", "broken", "not_run", "unsupported"].map((kind) => {
             const s = getComputedStyle(document.querySelector("td." + kind));
             return s.backgroundColor + s.backgroundImage; })"""
    )
    assert len(set(looks)) == 5
    strengths = shown.evaluate(
        "[...document.querySelectorAll('td.kernel')].map((e) => [e.innerText, getComputedStyle(e).backgroundColor])"
    )
    assert len({color for text, color in strengths if text.startswith("3")}) == 1
    assert len({color for _, color in strengths}) == 2


def test_squares_stand_under_their_modes_on_a_phone(look: Look) -> None:
    shown = look(everything(), width=PHONE)
    off = shown.evaluate(
        """[...document.querySelectorAll("table.matrix")].flatMap((table) => {
             const heads = [...table.querySelectorAll("thead th")].map((e) => e.getBoundingClientRect());
             return [...table.querySelectorAll("tbody tr")].flatMap((row) => [...row.children].slice(1).map((cell, i) =>
               Math.abs(cell.getBoundingClientRect().left - heads[i + 1].left)));
           })"""
    )
    assert off
    assert max(off) < 1


def test_the_histograms_bars_are_as_high_as_their_counts(look: Look) -> None:
    shown = look(everything())
    bars = shown.evaluate(
        """Object.fromEntries([...document.querySelectorAll(".backend")].map((card) => [
             card.querySelector("h3").innerText,
             [...card.querySelectorAll(".bars span")].map((e) => e.getBoundingClientRect().height)]))"""
    )
    wrong = bars["wrong"]  # one layer at 0.45, two above the bound
    assert len(wrong) == 11
    assert wrong[4] == pytest.approx(wrong[10] / 2, abs=1)
    assert [index for index, height in enumerate(wrong) if height] == [4, 10]
    assert bars["trtllm_mha"] == []
    assert text_of(shown, ".caption b") == ["2 above the bound", "1 above the bound"]
    ends = shown.evaluate(
        """[".bars span:nth-child(10)", ".bars span:nth-child(5)", ".axis em:nth-child(3)", ".axis em:nth-child(2)"]
             .map((s) => document.querySelector(s).getBoundingClientRect()).map((box) => [box.left, box.right])"""
    )
    assert ends[2][1] == pytest.approx(ends[0][1], abs=1)  # the label of the bound ends where its last bar does
    assert sum(ends[3]) / 2 == pytest.approx(ends[1][1] + 1, abs=1)  # 0.5 stands between the fifth bar and the sixth


def test_a_failure_carries_its_case_and_the_command_that_replays_it(look: Look) -> None:
    shown = look(everything())
    (failure,) = text_of(shown, "details.failure")
    assert "wrong \u00b7 clause 2 (window) 21979 \u00d7 the bound" in failure
    assert "error:  21979 \u00d7 the bound" in failure
    assert text_of(shown, "pre.command") == [f"attnconf replay {CASE.id}-wrong.json --backend wrong"]
    link = "document.querySelector('a[download]')"
    assert shown.evaluate(f"{link}.download") == f"{CASE.id}-wrong.json"
    assert json.loads(shown.evaluate(f"atob({link}.href.split(',')[1])")) == CASE.to_data()


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("attnconf replay f/0123456789ab-x.json --backend x", "attnconf replay 0123456789ab-x.json --backend x"),
        ("attnconf replay /a b/0123456789ab-x.json --backend x", "attnconf replay 0123456789ab-x.json --backend x"),
        (
            "pytest -p attnconf --attnconf-replay=/f/0123456789ab-x.json --attnconf-backend=x",
            "pytest -p attnconf --attnconf-replay=0123456789ab-x.json --attnconf-backend=x",
        ),
        ("(the case could not be saved as f: full)", f"attnconf replay {CASE.id}.json --backend wrong"),
    ],
)
def test_the_command_needs_no_folder_of_the_machine_that_failed(look: Look, recorded: str, shown: str) -> None:
    assert text_of(look(everything(failures=(a_failure(replay=recorded),))), "pre.command") == [shown]


def test_versions_and_runs_are_named(look: Look) -> None:
    shown = look(everything(), a_receipt(*proven(), where=H200))
    assert text_of(shown, ".site h2")[0] == "CPU only, no GPU"  # what is wrong comes first
    assert "NVIDIA H200, SM 9.0" in text_of(shown, ".site h2")
    facts = " ".join(text_of(shown, ".facts"))
    assert all(word in facts for word in ("cuda 13.0", "driver 580.1", "torch 2.11.0", "triton 3.6.0"))
    assert [row.split("\t")[0] for row in text_of(shown, ".runs tbody tr")] == ["r0.json", "r1.json"]


def test_text_of_a_receipt_stays_text(look: Look) -> None:
    evil = "\"'><script>document.title='owned'</script><img src=http://localhost:1/x.png onerror=alert(1)>\u202e\x1b"
    cell = a_cell(evil, not_run=1, passed=1, reasons={f"not_run: {evil}": 1})
    cells = (cell, a_cell("b", "sliding", not_run=2, reasons={evil: 2}), a_cell("b", passed=1))
    failed = a_failure(backend=evil, text=evil, replay=evil, case=CASE.model_copy(update={"model": evil}))
    shown = look(a_receipt(*cells, failures=(failed,), profile=evil, git_sha=evil))
    assert shown.evaluate("[document.scripts.length, document.images.length]") == [0, 0]
    assert shown.evaluate("document.title").endswith(" - attnconf")
    assert any("<script>" in text and "\\u202e\\x1b" in text for text in text_of(shown, "h3"))


def test_a_met_policy_has_no_red_on_its_page(look: Look) -> None:
    shown = look(a_receipt(*proven()))
    assert text_of(shown, "#unmet, #failures, td.broken, .pill.notmet") == []
    assert text_of(shown, ".pill") == ["MET", "MET"]


def test_without_a_chromium_the_tests_are_not_run_and_one_that_is_named_must_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ATTNCONF_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotJudged, match="needs a Chromium") as found:
        browser.find_chromium()
    assert found.value.outcome == "not_run"
    monkeypatch.setenv("ATTNCONF_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(pytest.fail.Exception, match="ATTNCONF_CHROMIUM is '/nowhere/chromium'"):
        browser.find_chromium()

"""Reports in HTML, Markdown and the terminal: whole, escaped, bounded, readable without pictures."""

import io
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from fairlead.records.evidence import Verdict
from fairlead.reports.bands import WIDTH as BAND_WIDTH
from fairlead.reports.html import MAX_BYTES, render_html
from fairlead.reports.markdown import render_markdown
from fairlead.reports.model import (
    Badge,
    Band,
    BandPoint,
    Bands,
    BarChart,
    Block,
    Boxes,
    Callout,
    Card,
    Histogram,
    IntervalRow,
    Intervals,
    KeyValues,
    LineChart,
    Matrix,
    Report,
    Ribbon,
    Section,
    Shares,
    Table,
    Text,
    Timeline,
    TimelineStep,
)
from fairlead.reports.scale import log_axis_over
from fairlead.reports.terminal import render_terminal
from fairlead.reports.words import sparkline

EVIL = '<script>alert("1")</script>&amp;\'"`|*_[x](y)\x1b[31m[bold red]\u202e\ud800'
VOID = {"meta", "br", "link", "img", "hr", "input"}


def every_block(text: str) -> list[Block]:
    return [
        Text(f"{text}\n\nsecond paragraph"),
        Callout("warn", text, text),
        Callout("fail", text),
        Callout("ok", text),
        Callout("info", text),
        KeyValues(
            {text: text, "n": 1234567, "none": None, "at": datetime(2024, 5, 1, tzinfo=UTC), "b": Badge(text, "ok")}
        ),
        Table([text, "n"], [[text, 1.5], [Verdict.PASS, 2], [True]], title=text, note=text),
        LineChart({text: [(0, 1), (1, math.nan), (2, 3)]}, text, text, title=text, bounds={text: 2.0}, diagonal=True),
        BarChart([(text, {text: 1.0, "b": None}), ("x", {text: -2.0})], text, title=text, bounds={text: 0.5}),
        Histogram([0, 1, 2, 10], {text: [1, 2, 3], "live": [3, 2, 1]}, text, title=text),
        Intervals(
            [IntervalRow(text, 0.1, 0.2, None, 0.15, Verdict.FAIL), IntervalRow(text, None, None, None)], text, text
        ),
        Timeline(
            [TimelineStep("2024-05-01T10:00:00+00:00", text, 1.0, "ok"), TimelineStep(text, text, 5.0, "fail")],
            text,
            text,
        ),
        Matrix([text, "b"], [[1, 2], [0, 0]], text, text, title=text),
        Bands([narrowing(text), Band(text, [])], text, title=text, note=text),
        card(text),
        Ribbon([text, "b"], [(text, [0.5, None]), ("c", [1.5, 0.0])], full=1.0, bound=0.4, title=text, note=text),
    ]


def card(text: str) -> Card:
    """Every kind of small picture."""
    panels = [
        (text, Histogram([0, 1, 2], {text: [1, 2], "b": [3, 0]})),
        (text, Histogram([0, 1, 2], {"": [1, 2]})),
        (text, BarChart([(text, {text: 0.5, "b": None}), ("c", {text: 0.25, "b": 0.1})])),
        (text, BarChart([(f"{text} {i}", 0.1) for i in range(9)])),
        (text, Boxes([(text, [1, 2, 3, 4, 50_000.0]), ("b", None)])),
        (text, Shares([text, "b"], [(text, [0.02, 0.01]), ("c", [0.0, 0.03])])),
        (text, Histogram([0, 1], {"": [0]})),
        (text, Boxes([("a", None)])),
        (text, Shares([], [])),
        (text, BarChart([])),
    ]
    return Card(text, [(text, text), ("share", 0.5), ("judged", Badge(text, "warn"))], panels, [Badge(text)], text)


def narrowing(title: str = "rate", **changes: object) -> Band:
    points = [BandPoint(n, None if n < 100 else 0.0, 0.01, 1 / n) for n in (1, 10, 100, 1000)]
    return replace(Band(title, points, {title: 0.05}, 1000.0, title, "ok"), **changes)  # type: ignore[arg-type]


def report_of(*blocks: Block, title: str = "Title") -> Report:
    return Report(title, "subtitle", [Section("One", blocks)])


class _Checker(HTMLParser):
    """Fails on tags that do not nest, and collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def parsed(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def terminal_text(report: Report, width: int = 120) -> str:
    stream = io.StringIO()
    render_terminal(report, Console(file=stream, width=width, force_terminal=False))
    return stream.getvalue()


# --- HTML ------------------------------------------------------------------------------------------------------------
def test_every_block_makes_nesting_html_with_its_words() -> None:
    page = parsed(render_html(report_of(*every_block("delay"))))
    assert page.text.count("delay") > 20
    assert {"svg", "table", "dl", "ol", "section", "main", "h1", "h2"} <= {tag for tag, _ in page.tags}


def test_a_band_is_told_in_words_and_drawn_to_its_moment_of_decision() -> None:
    page = parsed(render_html(report_of(Bands([narrowing()], "requests"))))
    (summary,) = [attrs["aria-label"] for tag, attrs in page.tags if attrs.get("class") == "band"]
    assert summary == "rate: after 1,000, 0.01 [0, 0.001]; after 1, 0.01 [−∞, 1]; rate 0.05; rate after 1,000."
    marks = [attrs["d"] for tag, attrs in page.tags if attrs.get("class") == "mark k-ok"]
    assert marks == [f"M{BAND_WIDTH - 10:.1f} 20V136"]
    assert "▁" in terminal_text(report_of(Bands([narrowing()], "requests")))


def test_the_first_wide_intervals_do_not_hide_the_later_ones() -> None:
    wide = [BandPoint(n, -1e6 if n < 50 else -0.01, 0.0, 1e6 if n < 50 else 0.01) for n in range(1, 101)]
    page = parsed(render_html(report_of(Bands([narrowing(points=wide)], "requests"))))
    assert "1,000,000" not in page.text.split("Numbers")[0]
    assert "0.05" in page.text


def test_a_card_draws_what_there_is_and_leaves_out_what_is_empty() -> None:
    page = parsed(render_html(report_of(card("town"))))
    pictures = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "band"]
    assert len(pictures) == 6
    boxes = [attrs for tag, attrs in page.tags if tag == "rect" and attrs.get("class") == "box"]
    assert len(boxes) == 1
    assert "and 2 more" in page.text
    assert "5%" in page.text, "shares that fill a twentieth get an axis of a twentieth"
    assert "40k" in page.text
    for words in (terminal_text(report_of(card("town"))), render_markdown(report_of(card("town")))):
        assert "town" in words
        assert "0.5" in words


def test_a_ribbon_shades_by_value_and_marks_from_its_bound() -> None:
    block = Ribbon(["a", "b", "c"], [("x", [0.1, 0.5, None]), ("y", [2.0, 0.001, 0.4])], full=1.0, bound=0.4)
    page = parsed(render_html(report_of(block)))
    cells = [attrs for tag, attrs in page.tags if tag == "td"]
    assert [attrs.get("style") for attrs in cells] == ["--a:0.09", "--a:0.42", None, "--a:0.85", "--a:0.00", "--a:0.34"]
    assert [attrs.get("class") for attrs in cells] == [None, "hit", None, "hit", None, "hit"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_a_band_of_numbers_that_are_not_finite_is_left_out(bad: float) -> None:
    points = [BandPoint(n, bad, bad, bad) for n in (1.0, 2.0, bad)]
    page = parsed(render_html(report_of(Bands([narrowing(points=points, bounds={"b": bad}, mark=None)], "n"))))
    assert "no observations" in page.text


def test_a_logarithmic_axis_has_round_ticks_within_its_ends() -> None:
    axis = log_axis_over([30, 2007], 0, 100)
    assert axis.ticks() == [30, 100, 300, 1000]
    assert [axis.place(30), axis.place(2007), axis.place(1), axis.place(1e9)] == [0, 100, 0, 100]
    assert log_axis_over([], 0, 1).ticks() == [1, 2, 5, 10]
    assert log_axis_over([5, 5], 0, 1).low < 5 < log_axis_over([5, 5], 0, 1).high


def test_a_table_too_wide_for_a_phone_names_its_cells() -> None:
    page = render_html(report_of(Table(["a", "b", "c", "d"], [[1, 2, 3, 4]])))
    assert page.count("data-label=") == 4
    assert 'data-label="a"' not in render_html(report_of(Table(["a", "b"], [[1, 2]])))


def test_text_from_data_never_becomes_markup() -> None:
    page = render_html(report_of(*every_block(EVIL), title=EVIL))
    page.encode("utf-8")
    checker = parsed(page)
    assert "script" not in {tag for tag, _ in checker.tags}
    assert '<script>alert("1")</script>&amp;' in checker.text
    assert "\x1b" not in page
    assert "\u202e" not in page


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_whole_html(text: str) -> None:
    page = render_html(report_of(*every_block(text), title=text))
    page.encode("utf-8")
    allowed = """html head meta title style body main header h1 h2 p span div strong ul ol li a nav section dl dt dd
        table caption thead tbody tr th td figure figcaption svg path text circle rect details summary time small
        footer article h3 i"""
    assert {tag for tag, _ in parsed(page).tags} <= set(allowed.split())


def test_nothing_is_fetched_and_the_page_forbids_it() -> None:
    page = render_html(report_of(*every_block("x")))
    assert not re.search(r"https?:|url\(|@import|src=|<link|<script|<img|javascript:", page)
    assert "default-src 'none'" in page
    hrefs = [attrs["href"] for tag, attrs in parsed(page).tags if tag == "a"]
    assert hrefs
    assert all(href and href.startswith("#") for href in hrefs)


def test_links_lead_to_sections_that_exist() -> None:
    report = Report("t", "", [Section(f"s{i}", [Callout("warn", "w")]) for i in range(4)])
    checker = parsed(render_html(report))
    ids = {attrs["id"] for _, attrs in checker.tags if "id" in attrs}
    targets = {str(attrs["href"])[1:] for tag, attrs in checker.tags if tag == "a"}
    assert targets == ids == {"s0", "s1", "s2", "s3"}


def test_pictures_have_words_for_those_who_cannot_see_them() -> None:
    checker = parsed(render_html(report_of(*every_block("delay"))))
    pictures = [attrs for tag, attrs in checker.tags if tag == "svg"]
    assert pictures
    for attrs in pictures:
        assert attrs.get("aria-hidden") == "true" or (attrs.get("role") == "img" and attrs.get("aria-label"))


def test_light_and_dark_are_both_there() -> None:
    page = render_html(report_of())
    assert "prefers-color-scheme:dark" in page.replace(" ", "")
    assert "color-scheme:light dark" in page


def test_failures_stand_first_then_warnings_whatever_their_section() -> None:
    report = Report(
        "t",
        "",
        [Section("a", [Callout("warn", "careful"), Callout("ok", "fine")]), Section("b", [Callout("fail", "broken")])],
    )
    page = render_html(report)
    top = page[: page.index("<section")]
    assert top.index("broken") < top.index("careful")
    assert "fine" not in top
    assert "2 things need attention" in top


def test_the_verdict_is_a_badge_in_the_title() -> None:
    page = render_html(Report("t", "", [], Verdict.NOT_ENOUGH_EVIDENCE))
    assert '<span class="badge b-warn">NOT ENOUGH EVIDENCE</span></h1>' in page


@pytest.mark.parametrize(
    "block",
    [
        Table(["a", "b"], [["x" * 500, i] for i in range(20_000)]),
        LineChart({f"s{j}": [(i, math.sin(i / 50) + j) for i in range(50_000)] for j in range(8)}, "x", "y"),
        Text("word " * 500_000),
        KeyValues({f"key {i}": "v" * 300 for i in range(5_000)}),
        Timeline([TimelineStep("2024-01-01T00:00:00", "something happened " * 20, i % 100) for i in range(5_000)]),
        Matrix([f"class {i}" for i in range(300)], [[1] * 300 for _ in range(300)]),
        Histogram(list(range(5_001)), {"a": [1] * 5_000, "b": [2] * 5_000}),
        BarChart([(f"feature {i}", float(i)) for i in range(5_000)], "importance"),
    ],
    ids=lambda block: type(block).__name__,
)
def test_a_large_block_stays_within_300_kb_and_says_what_is_left_out(block: Block) -> None:
    page = render_html(report_of(block))
    assert len(page.encode()) <= MAX_BYTES
    parsed(page)
    if isinstance(block, (Table, KeyValues, Timeline, Matrix, BarChart)):
        assert "not shown here" in page


def test_a_report_of_very_many_blocks_is_cut_and_says_so() -> None:
    table = Table(["a", "b", "c"], [["some words of text", i, "x" * 60] for i in range(50)])
    page = render_html(Report("t", "", [Section(f"section {i}", [table] * 20) for i in range(60)]))
    assert len(page.encode()) <= MAX_BYTES
    assert "The rest of this report was left out" in page
    parsed(page)


@pytest.mark.parametrize(
    "block",
    [
        LineChart({}, "x", "y"),
        LineChart({"a": [(math.inf, 1)]}, "x", "y"),
        BarChart([], "v"),
        BarChart([("a", None)], "v"),
        Histogram([], {}),
        Histogram([0, 1], {"a": [0]}),
        Intervals([]),
        Timeline([]),
        Matrix([], []),
        Table([], []),
        KeyValues([]),
        LineChart({"a": [(1, 1)]}, "x", "y"),
        LineChart({"a": [(1e308, -1e308), (-1e308, 1e308)]}, "x", "y"),
        BarChart([("a", 0.0)]),
        BarChart([("a", math.nan), ("b", math.inf)]),
    ],
)
def test_empty_and_extreme_blocks_render_everywhere(block: Block) -> None:
    report = report_of(block)
    page = render_html(report)
    parsed(page)
    assert not re.search(r'[ "](nan|inf)', page)
    render_markdown(report)
    terminal_text(report)


def test_points_that_are_not_finite_are_counted() -> None:
    page = render_html(report_of(LineChart({"a": [(0, 1), (1, math.nan), (2, 2)]}, "x", "y")))
    assert "Points left out because they are not finite: 1." in page


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=40), st.floats(), st.booleans())
def test_any_numbers_draw_without_nan_in_the_picture(
    points: list[tuple[float, float]], bound: float, diagonal: bool
) -> None:
    page = render_html(report_of(LineChart({"a": points}, "x", "y", bounds={"b": bound}, diagonal=diagonal)))
    assert not re.search(r' (d|x|y|cx|cy|width)="[^"]*(nan|inf)', page)
    parsed(page)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.none() | st.floats()] * 4), max_size=6), st.booleans())
def test_any_intervals_draw_without_nan_in_the_picture(rows: list[tuple[float | None, ...]], shared: bool) -> None:
    block = Intervals([IntervalRow("a", *row) for row in rows], shared_axis=shared)
    page = render_html(report_of(block))
    assert not re.search(r' (d|cx)="[^"]*(nan|inf)', page)
    render_markdown(report_of(block))
    terminal_text(report_of(block))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(), max_size=6), st.lists(st.floats(), max_size=6))
def test_any_histogram_draws_without_nan_in_the_picture(edges: list[float], counts: list[float]) -> None:
    for block in (Histogram(edges, {"a": counts}), Histogram(edges, {"a": counts, "b": counts})):
        page = render_html(report_of(block))
        assert not re.search(r' d="[^"]*(nan|inf)', page)
        render_markdown(report_of(block))
        terminal_text(report_of(block))


@settings(max_examples=60, deadline=None)
@example([5e-324], 0.0)
@example([0.0, 1e-308], 0.0)
@given(st.lists(st.none() | st.floats(), max_size=6), st.floats())
def test_any_bars_draw_without_nan_in_the_picture(values: list[float | None], bound: float) -> None:
    block = BarChart([(f"b{i}", value) for i, value in enumerate(values)], bounds={"gate": bound})
    page = render_html(report_of(block))
    assert not re.search(r' (d|x|y|width)="[^"]*(nan|inf)', page)
    terminal_text(report_of(block))


# --- Markdown --------------------------------------------------------------------------------------------------------
def test_markdown_keeps_tables_whole_whatever_the_cells_hold() -> None:
    text = render_markdown(report_of(Table(["a|b", "c"], [["x|y\nz", 1], [EVIL, None]])))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    assert "<script>" not in text


def test_markdown_lists_what_needs_attention_before_the_sections() -> None:
    text = render_markdown(report_of(Callout("fail", "broken")))
    assert text.index("- broken") < text.index("## One")
    assert "> [!CAUTION]" in text


def test_every_block_renders_as_markdown() -> None:
    text = render_markdown(report_of(*every_block("delay")))
    assert text.count("delay") > 20
    assert "1,234,567" in text


# --- terminal --------------------------------------------------------------------------------------------------------
def test_the_terminal_shows_every_block() -> None:
    shown = terminal_text(report_of(*every_block("delay")))
    assert shown.count("delay") > 20
    assert "1,234,567" in shown


def test_text_from_data_cannot_command_the_terminal() -> None:
    shown = terminal_text(report_of(*every_block(EVIL), title=EVIL))
    assert "\x1b" not in shown
    assert "[bold red]" in shown


@pytest.mark.parametrize("width", [20, 40, 200])
def test_narrow_and_wide_terminals_work(width: int) -> None:
    lines = terminal_text(report_of(*every_block("delay of arrival in minutes")), width).splitlines()
    assert max(map(len, lines)) <= width


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5]) == "▄▄"
    assert sparkline([math.nan]) == ""

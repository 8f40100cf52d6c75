"""What the picture promises: every row that was compared, on its side, and readable."""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
import pytest
from matplotlib.font_manager import FontProperties, findfont, get_font

from osmo_benchmarks.report import picture
from osmo_benchmarks.report.lines import Line, Verdict, lines
from osmo_benchmarks.run import Run
from tests.benchmarks.test_report import whole

SVG = "{http://www.w3.org/2000/svg}"
MARKS = ("ahead", "behind", "range", "target", "tuned")
PHONE = 360
SMALLEST = 9.5
"""Pixels of text on it."""
FINE = 100
"""Times larger texts are measured: fonts are fitted to whole pixels."""
CONTRAST = 4.5
"""Of text, as WCAG AA asks."""


class Box(NamedTuple):
    """What a text covers in a wide font, DejaVu Sans."""

    left: float
    top: float
    right: float
    bottom: float
    size: float

    def overlaps(self, other: "Box") -> bool:
        """Whether they share a point."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def drawn(run: Run) -> Element:
    return ElementTree.fromstring(picture.render(run))


def groups(svg: Element) -> Iterator[tuple[str, dict[str, Element]]]:
    """The heading of each group, and its rows by id, in the order of the picture."""
    heading, rows = "", dict[str, Element]()
    for each in svg:
        if each.tag == f"{SVG}text" and each.get("class") == "b":
            if rows:
                yield heading, rows
            heading, rows = each.text or "", {}
        elif each.tag == f"{SVG}g":
            rows[(each.findtext(f"{SVG}title") or "").partition(":")[0]] = each
    if rows:
        yield heading, rows


def row_of(svg: Element, name: str) -> Element:
    (found,) = (rows[name] for _, rows in groups(svg) if name in rows)
    return found


def texts(row: Element) -> list[str]:
    return [each.text or "" for each in row.findall(f"{SVG}text")]


def places(row: Element, kind: str) -> list[float]:
    """From the left: where marks of a kind begin and end."""
    found = []
    for each in row:
        if each.get("class") == kind and each.tag == f"{SVG}rect":
            begin = float(each.attrib["x"])
            found += [begin, begin + float(each.attrib["width"])]
        elif each.get("class") == kind:
            found += [float(x) for x in re.findall(r"[ML]([\d.]+) ", each.attrib["d"])]
    return found


def even(svg: Element) -> float:
    return places(svg, "even")[0]


def is_compared(line: Line) -> bool:
    named = line.row.short or line.verdict is not Verdict.NONE
    return line.advantage("go") is not None and bool(named)


def with_row(run: Run, name: str, **changes: object) -> Run:
    """The same, but for one row."""
    for number, table in enumerate(run.tables):
        rows = [
            msgspec.structs.replace(row, **changes) if row.id == name else row for row in table.rows
        ]
        run.tables[number] = msgspec.structs.replace(table, rows=rows)
    return run


def measured(run: Run, name: str, **ours: float) -> Run:
    """The same, but for what these systems took for a row of which the draft takes 1."""
    row = next(row for table in run.tables for row in table.rows if row.id == name)
    values = {system.replace("_", "-"): value for system, value in ours.items()} | {"go": 1.0}
    for sample in run.experiments[row.experiment].samples:
        if sample.system in values:
            sample.figures[row.figure] = values[sample.system]
    return run


def test_every_row_with_a_ratio_is_below_the_title_of_its_table() -> None:
    """What has neither a target nor a short name is left to the tables."""
    run = whole()
    found = [(heading, set(rows)) for heading, rows in groups(drawn(run))]
    expected = [
        (table.title.partition(":")[0], {line.row.id for line in compared})
        for table in run.tables
        if (compared := [line for line in lines(run, table) if is_compared(line)])
    ]
    assert found == expected
    assert len(found) > 4
    assert not any("T1 ws min" in rows for _, rows in found)


def test_what_is_furthest_ahead_comes_first() -> None:
    """In each group."""
    run = whole()
    ratios = {
        line.row.id: ahead.median
        for table in run.tables
        for line in lines(run, table)
        if (ahead := line.advantage("go"))
    }
    for _, rows in groups(drawn(run)):
        found = [ratios[name] for name in rows]
        assert found == sorted(found, reverse=True)


def test_side_colour_and_words_agree() -> None:
    """In every row, and the picture counts them."""
    run = whole()
    svg = drawn(run)
    ratios = {
        line.row.id: ahead.median
        for table in run.tables
        for line in lines(run, table)
        if (ahead := line.advantage("go"))
    }
    count = {"ahead": 0, "behind": 0}
    for name, row in ((name, row) for _, rows in groups(svg) for name, row in rows.items()):
        side, other = ("ahead", "behind") if ratios[name] >= 1 else ("behind", "ahead")
        begin, end = places(row, side)
        assert (begin == even(svg)) == (side == "ahead")
        assert begin < end
        assert (end == pytest.approx(even(svg), abs=0.2)) == (side == "behind")
        assert not places(row, other)
        assert texts(row)[-1].endswith(f"x {side}")
        count[side] += 1
    assert min(count.values()) > 2
    words = [each.text for each in svg.findall(f"{SVG}text")]
    assert f"ahead in {count['ahead']} rows, behind in {count['behind']}" in words


def test_what_is_ahead_and_short_of_its_target_is_drawn_as_ahead() -> None:
    """Its tick lies beyond the bar."""
    run = measured(whole("round-trip"), "T2 ws", osmo_ws=7.0)
    row = row_of(drawn(with_row(run, "T2 ws", limits={"go": 8.0})), "T2 ws")
    assert texts(row)[-1] == "7x ahead"
    assert places(row, "target")[0] > places(row, "ahead")[1]


def test_a_target_of_less_lies_ahead() -> None:
    """Half of the time is twice ahead."""
    run = measured(whole("round-trip"), "T1 ws 500", osmo_ws=0.25)
    svg = drawn(with_row(run, "T1 ws 500", limits={"go": 0.5}))
    row = row_of(svg, "T1 ws 500")
    assert even(svg) < places(row, "target")[0] < places(row, "ahead")[1]


def test_a_mark_tells_of_the_tuned_peer() -> None:
    """Here it is ahead of ours, which is ahead of the draft."""
    run = measured(whole("large-cluster"), "L1 burst", osmo_ws=0.5, go_tuned=0.25)
    svg = drawn(run)
    row = row_of(svg, "L1 burst")
    assert places(row, "ahead")[0] == even(svg)
    assert places(row, "tuned")[0] < even(svg)


def test_a_line_tells_of_all_rounds() -> None:
    """From the worst to the best."""
    run = whole("round-trip")
    row = next(each for each in run.tables[0].rows if each.id == "T1 ws 500")
    for sample in run.samples(row.experiment, row.ours):
        sample.figures[row.figure] = (2.0, 40.0, 80.0)[sample.round]
    svg = drawn(run)
    low, high = sorted(places(row_of(svg, row.id), "range"))
    assert low < even(svg) < places(row_of(svg, row.id), "ahead")[1] < high


def test_what_takes_nothing_is_far_ahead() -> None:
    """It reaches the end of the scale, and no number is made up."""
    row = row_of(drawn(measured(whole("startup"), "K1 gap", osmo_ws=0.0)), "K1 gap")
    assert texts(row)[-1] == "far ahead"
    assert places(row, "ahead")[1] == pytest.approx(picture.RIGHT, abs=0.1)


@pytest.mark.parametrize(
    ("factor", "words"), [(1.0, "even"), (1.001, "even"), (1.04, "1.04x behind")]
)
def test_even(factor: float, words: str) -> None:
    """To three digits."""
    run = measured(whole("workers"), "Q1", osmo_ws=factor)
    assert texts(row_of(drawn(run), "Q1"))[-1] == words


def test_a_row_has_its_short_name() -> None:
    """Or else its id; no two of a table have the same."""
    run = with_row(whole(), "K1 gap", short="")
    for _, rows in groups(drawn(run)):
        labels = [texts(row)[0] for row in rows.values()]
        assert len(set(labels)) == len(labels)
    svg = drawn(run)
    assert texts(row_of(svg, "K1 gap"))[0] == "K1 gap"
    assert texts(row_of(svg, "K1 all"))[0] == "Start-up, 85 pods"


def box(text: Element, style: str) -> Box:
    """Of a text, with the size and weight that the style gives it."""
    rules = f"font-size:{re.findall(r'font:([^ ]*)', style)[0]};" + "".join(
        found
        for kind in (text.get("class") or "").split()
        for found in re.findall(rf"\.{kind}{{(.*?)}}", style)
    )
    size = float(re.findall(r"font-size:([\d.]+)px", rules)[-1])
    weight = "bold" if "font-weight" in rules else "normal"
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
    font.set_size(size * FINE, 72)
    font.set_text(text.text or "")
    width = font.get_width_height()[0] / 64 / FINE
    shift = width if "anchor:end" in rules else width / 2 if "anchor:middle" in rules else 0.0
    left, base = float(text.attrib["x"]) - shift, float(text.attrib["y"])
    return Box(left, base - 0.75 * size, left + width, base + 0.2 * size, size)


@pytest.mark.parametrize(
    ("named", "ahead", "behind"), [(False, 2.0, 2.0), (True, 2.0, 2.0), (True, 500.0, 30.0)]
)
def test_on_a_phone_everything_can_be_read(*, named: bool, ahead: float, behind: float) -> None:
    """No text is small, or covered by another one, by what is drawn, or by the edge."""
    run = whole()
    if not named:
        for name in [row.id for table in run.tables for row in table.rows]:
            with_row(run, name, short="")
    svg = drawn(measured(run, "T2 ws", osmo_ws=ahead, osmo_grpc=1 / behind))
    style = svg.findtext(f"{SVG}style") or ""
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    assert width == PHONE
    found = [box(each, style) for each in svg.iter(f"{SVG}text")]
    assert not [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])]
    for each in found:
        assert each.size >= SMALLEST
        assert each.left > 0
        assert each.right < width
        assert each.bottom < height
    for row in (row for _, rows in groups(svg) for row in rows.values()):
        label, words = (box(each, style) for each in row.findall(f"{SVG}text"))
        marks = [x for kind in MARKS for x in places(row, kind)]
        assert label.right < min(marks)
        assert words.left > max(marks)


@pytest.mark.parametrize("dark", [False, True])
def test_a_theme(*, dark: bool) -> None:
    """Texts stand out from the page, and no colour is one theme's only."""
    svg = drawn(whole("round-trip"))
    style = svg.findtext(f"{SVG}style") or ""
    light_part, query, dark_part = style.partition("@media (prefers-color-scheme:dark)")
    assert query
    theme = dict(re.findall(r"--([\w-]+):(#\w{6})", dark_part if dark else light_part))
    used = set(re.findall(r"var\(--([\w-]+)\)", style))
    assert {"ink", "page", "osmo-ws", "go"} <= used <= theme.keys()
    for name in ("ink", "dim", "osmo-ws", "go"):
        assert contrast(theme[name], theme["page"]) >= CONTRAST
    body = picture.render(whole("round-trip")).partition("</style>")[2]
    assert not re.search(r"#\w{3}|fill=|stroke=|style=", body)


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

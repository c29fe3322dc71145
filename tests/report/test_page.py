from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from report.browser import Browser
from report.run_folders import EVIL, make_run
from sightline.cli.main import main
from sightline.errors import MissingFileError, SettingValueError, UsageError
from sightline.report.page import BUDGET, write_report

RANGES = 'return all(".chart").map((chart) => [Number(chart.dataset.from), Number(chart.dataset.to)]);'
FIRST = ".chart svg"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page about one run."""
    return write_report([make_run(tmp_path_factory.mktemp("runs") / "run")]).as_uri()


def test_the_overview_comes_first_and_tabs_switch(browser: Browser, one: str):
    with browser.open(one) as page:
        first = page.run("""
            const two = (card) => [card.children[0].textContent, card.children[1].textContent];
            return {
              title: document.title, tab: find("main").dataset.tab, cards: Object.fromEntries(all(".card").map(two)),
              findings: all(".findings li").map((item) => item.querySelector("b").textContent),
            };
        """)
        assert (first["title"], first["tab"]) == ("run – sightline", "Overview")
        assert first["findings"] == ["box noise", "skipped step"]
        assert first["cards"]["best epoch"] == "3"
        texts = {}
        for number, name in enumerate(page.run("return all('[role=\"tab\"]').map((link) => link.textContent);")):
            page.click('[role="tab"]', number)
            page.run(f'await until(() => find("main").dataset.tab === "{name}");')
            assert page.run("return all('[aria-selected=\"true\"]').map((item) => item.textContent);") == [name]
            texts[name] = page.run('return find("main").textContent;')
        assert len(set(texts.values())) == 7
        assert EVIL in texts["Data"]  # as text; had it run, `problems` would tell
        assert "sightline train model=yolo26n.yaml 'data=my data.yaml' epochs=5 lr0=0.01" in texts["Run"]
        assert "The loader is the bottleneck: 40%" in texts["Run"]
        assert "lr0" in texts["Settings"]
        assert "imgsz" not in texts["Settings"]  # at its default, so only on request
        assert page.run('return document.querySelectorAll("main script, header script, dialog script").length;') == 0


def test_curves_zoom_smooth_and_take_a_log_scale(browser: Browser, one: str):
    with browser.open(f"{one}#curves") as page:
        titles = page.run('return all(".chart").map((chart) => chart.querySelector("b").textContent);')
        assert {"mAP", "box loss", "Learning rate", "Gradient norm", "Momentum"} <= set(titles)
        assert page.run('return find(".chart").querySelectorAll("line.mark").length;') == 2

        line = 'return find(".chart path.line").getAttribute("d");'
        before = page.run(line)
        assert page.run(RANGES) == [[1, 5]] * len(titles)
        page.drag(FIRST, 0.45, 0.9)
        views = page.run(RANGES)
        low, high = views[0]
        assert 1 < low < high < 5
        assert views == [[low, high]] * len(titles)  # all charts of the tab together
        assert page.run(line) != before
        page.run(f'find("{FIRST}").dispatchEvent(new MouseEvent("dblclick", {{ bubbles: true }}));')
        assert page.run(RANGES) == [[1, 5]] * len(titles)
        assert page.run(line) == before

        page.hover(FIRST, 0.5)
        hint = page.run('return find(".tooltip:not([hidden])")?.textContent ?? "";')
        assert "epoch 3" in hint
        assert "mAP50-95 0.5" in hint
        assert "skipped step" in hint  # which was marked there

        page.run("""const slider = find('input[type="range"]');
                    slider.value = "0.9"; slider.dispatchEvent(new Event("input"));""")
        assert page.run('return find(".chart").querySelectorAll("path.raw").length;') == 2  # pale, behind the smoothed
        page.click("#log")
        ticks = page.run('return [...all(".chart")[1].querySelectorAll("text.tick")].map((item) => item.textContent);')
        assert {"2", "5"} <= set(ticks)
        page.run('await tab("Data"); await tab("Curves");')
        assert page.run('return [find("#log").checked, find(".chart path.raw") !== null];') == [True, True]


def test_tables_sort(browser: Browser, one: str):
    with browser.open(f"{one}#validation") as page:

        def column(number: int) -> list[str]:
            return list(page.run(f'return all("#classes tbody tr").map((row) => row.children[{number}].textContent);'))

        def sort_by(number: int) -> list[str]:
            page.click(f"#classes th:nth-child({number + 1}) button")
            return column(number)

        assert column(0) == [EVIL, "beta", "gamma"]
        assert sort_by(2) == ["3", "1", "0"]  # numbers: the largest first
        assert sort_by(2) == ["0", "1", "3"]
        assert sort_by(0) == sorted([EVIL, "beta", "gamma"])
        assert sort_by(7)[2] == "–"  # what is not known stands last
        assert page.run('return find("#classes th:nth-child(8)").getAttribute("aria-sort");') == "descending"
        assert page.run('return all(".matrix td").length;') == 16


def test_pictures_enlarge(browser: Browser, one: str):
    with browser.open(f"{one}#pictures") as page:
        assert page.run('return all(".gallery img").map((image) => image.width > 0 && image.complete);') == [True]
        drawn = 'return all(".overlaid")[0].querySelectorAll("g").length;'
        assert page.run(drawn) == 1
        page.click(".legend button", 3)  # what was missed is hidden
        assert page.run(drawn) == 0
        page.click(".gallery button")
        assert page.run('return find("dialog").open;')
        width = 'return parseFloat(find("dialog .frame > *").style.width);'
        small = page.run(width)
        page.click("dialog .frame > *")
        assert page.run(width) == 2 * small
        page.click("dialog .bar button")
        assert not page.run('return find("dialog").open;')


def test_several_runs_stand_side_by_side(browser: Browser, tmp_path: Path):
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", lr0=0.02)]
    with (runs[1] / "args.yaml").open("a") as file:
        file.write("patience: 100\n")
    with browser.open(write_report(runs, tmp_path / "both.html").as_uri()) as page:
        rows = page.run('return all("#compared tbody tr").map((row) => row.children[0].textContent);')
        assert rows == ["one", "two"]
        # What differs, with both values. The first run is of a version that did not have `patience` yet.
        differ = 'return all("#differ tbody tr").map((row) => [...row.children].map((cell) => cell.textContent));'
        assert page.run(differ) == [["lr0", "0.01", "0.02"]]
        page.run('await tab("Curves");')
        assert page.run('return find(".chart").querySelectorAll("path.line").length;') == 4  # two of each run
        page.run('await tab("Settings");')
        value = """return all("#settings tbody tr").find((row) => row.children[0].textContent === "lr0")
                         .children[1].textContent;"""
        assert page.run(value) == "0.01"
        page.click(".chooser button", 1)
        assert page.run(value) == "0.02"


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_sticks_out_on_a_phone(browser: Browser, one: str, dark: bool):
    with browser.open(one, width=390, dark=dark) as page:
        for number in range(7):
            page.click('[role="tab"]', number)
            page.run("await frame();")
            name, wide = page.run(
                'return [find("main").dataset.tab, document.documentElement.scrollWidth - innerWidth];'
            )
            assert wide <= 0, name
        back = page.run("return getComputedStyle(document.body).backgroundColor;")
        shade = max(int(number) for number in re.findall(r"\d+", back)[:3])
        assert (shade < 60) == dark


def test_the_browser_tells_of_a_page_that_is_not_whole(browser: Browser, tmp_path: Path):
    """What the tests above rely on: errors and requests end a visit."""
    for text, told in (
        ("<script>console.error('broken')</script>", "broken"),
        ("<script>missing()</script>", "missing"),
        ("<img src=http://127.0.0.1:9/x.png>", "x.png"),
    ):
        page = tmp_path / "page.html"
        page.write_text(text)
        with pytest.raises(AssertionError, match=told), browser.open(page.as_uri()):
            pass


def test_the_page_is_whole_and_small(tmp_path: Path):
    page = write_report([make_run(tmp_path / "run")])
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "run" / "report.html"
    assert len(text.encode()) < BUDGET
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)  # nothing in the file names another
    assert text.count("<script") == 2  # the data and the code: the class of that name is not among them
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert data["runs"][0]["validation"]["classes"][0]["name"] == EVIL


def test_a_table_alone_is_enough(tmp_path: Path):
    """Of another program, or of a run that died in its second epoch."""
    (tmp_path / "results.csv").write_text("epoch, metrics/mAP50-95(B)\n1, 0.25\n2, nan\n")
    assert "0.25" in write_report([tmp_path / "results.csv"]).read_text()


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(MissingFileError, match="is no run folder"):
        write_report([tmp_path])
    (tmp_path / "results.csv").write_text("epoch\nmany\n")
    with pytest.raises(SettingValueError, match="no table of numbers"):
        write_report([tmp_path])
    with pytest.raises(UsageError, match="not 13"):
        write_report([tmp_path] * 13)


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys):
    run = make_run(tmp_path / "run")
    assert main(["report", str(run), "--out", str(tmp_path / "other.html")]) == 0
    assert str(tmp_path / "other.html") in capsys.readouterr().out
    assert (tmp_path / "other.html").is_file()
    assert main(["report", str(tmp_path / "nothing")]) == 1

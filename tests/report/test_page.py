from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from report.browser import needs_chromium, visit
from report.run_folders import EVIL, make_run
from sightline.cli.main import main
from sightline.errors import MissingFileError, SettingValueError, UsageError
from sightline.report.page import BUDGET, write_report

DRAG = """
  const drag = async (chart, from, to) => {
    const area = chart.querySelector("svg"), box = area.getBoundingClientRect(), y = box.top + 60;
    const send = (kind, part) => area.dispatchEvent(new PointerEvent(kind, { clientX: box.left + box.width * part,
      clientY: y, pointerId: 1, button: 0, bubbles: true }));
    send("pointerdown", from); send("pointermove", to); send("pointerup", to);
    await wait();
  };
  const range = (chart) => [Number(chart.dataset.from), Number(chart.dataset.to)];
"""


@needs_chromium
def test_tabs_switch_curves_zoom_and_tables_sort(tmp_path: Path):
    """One visit for all of it: starting a browser takes longer than everything else."""
    seen = visit(
        write_report([make_run(tmp_path / "run")]),
        DRAG
        + """
        const out = { title: document.title, first: find("main").dataset.tab };
        out.findings = all(".findings li").map((item) => item.querySelector("b").textContent);
        const two = (card) => [card.children[0].textContent, card.children[1].textContent];
        out.cards = Object.fromEntries(all(".card").map(two));

        await tab("curves");
        out.tab = find("main").dataset.tab;
        out.selected = all('[aria-selected="true"]').map((item) => item.textContent);
        const charts = all(".chart");
        out.titles = charts.map((chart) => chart.querySelector("b").textContent);
        out.whole = range(charts[0]);
        const line = () => charts[0].querySelector("path.line").getAttribute("d");
        const before = line();
        await drag(charts[0], 0.45, 0.9);
        out.zoomed = charts.map(range);
        out.redrawn = line() !== before;
        charts[0].querySelector("svg").dispatchEvent(new MouseEvent("dblclick"));
        out.back = range(charts[0]);
        const slider = find('input[type="range"]');
        slider.value = "0.9"; slider.dispatchEvent(new Event("input"));
        out.raw = charts[0].querySelectorAll("path.raw").length;
        find("#log").click();
        out.ticks = [...charts[1].querySelectorAll("text.tick")].map((item) => item.textContent);
        out.marks = charts[0].querySelectorAll("line.mark").length;

        await tab("validation");
        const column = (i) => all(`#classes tbody tr`).map((row) => row.children[i].textContent);
        const click = (i) => find(`#classes th:nth-child(${i + 1}) button`).click();
        out.order = [column(0)];
        click(2); out.order.push(column(2));
        click(2); out.order.push(column(2));
        click(0); out.order.push(column(0));
        click(7); out.unknown_last = column(7)[2];
        out.sorted = find("#classes th:nth-child(8)").getAttribute("aria-sort");
        out.cells = all(".matrix td").length;

        await tab("pictures");
        out.pictures = all(".gallery img").map((image) => image.naturalWidth);
        find(".gallery button").click();
        out.enlarged = find("dialog").open;
        const size = () => find("dialog .frame > *").style.width;
        const small = size();
        find("dialog .frame > *").dispatchEvent(new MouseEvent("click"));
        out.larger = [small, size()];
        find("dialog").close();

        for (const name of ["data", "settings", "run"]) { await tab(name); out[name] = find("main").textContent; }
        out.scripts = document.querySelectorAll("main script, header script, dialog script").length;
        return out;
        """,
        tmp_path,
    )
    assert seen["title"] == "run – sightline"
    assert (seen["first"], seen["tab"], seen["selected"]) == ("Overview", "Curves", ["Curves"])
    assert seen["findings"] == ["box noise", "skipped step"]
    assert seen["cards"]["best epoch"] == "3"
    assert {"mAP", "box loss", "Learning rate", "Gradient norm", "Momentum"} <= set(seen["titles"])
    assert seen["whole"] == seen["back"] == [1, 5]
    low, high = seen["zoomed"][0]
    assert 1 < low < high < 5
    assert all(view == [low, high] for view in seen["zoomed"])  # all charts of the tab together
    assert seen["redrawn"]
    assert seen["raw"] == 2  # the curves as they are, pale, behind the smoothed ones
    assert "2" in seen["ticks"]
    assert "5" in seen["ticks"]
    assert seen["marks"] == 2
    assert seen["order"] == [
        [EVIL, "beta", "gamma"],
        ["3", "1", "0"],
        ["0", "1", "3"],
        sorted([EVIL, "beta", "gamma"]),
    ]
    assert (seen["unknown_last"], seen["sorted"]) == ("–", "descending")
    assert seen["cells"] == 16
    assert seen["pictures"] == [1000]  # of 1600
    assert seen["enlarged"]
    assert float(seen["larger"][1][:-2]) == 2 * float(seen["larger"][0][:-2])
    assert EVIL in seen["data"]
    assert "sightline train model=yolo26n.yaml 'data=my data.yaml' epochs=5 lr0=0.01" in seen["run"]
    assert "The loader is the bottleneck: 40%" in seen["run"]
    assert "lr0" in seen["settings"]
    assert "imgsz" not in seen["settings"]  # at its default, so only on request
    assert seen["scripts"] == 0


@needs_chromium
def test_several_runs_stand_side_by_side_on_a_phone(tmp_path: Path):
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", lr0=0.02)]
    seen = visit(
        write_report(runs, tmp_path / "both.html"),
        """
        const out = { text: find("main").textContent };
        out.rows = all("#compared tbody tr").map((row) => row.children[0].textContent);
        out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        await tab("curves");
        out.lines = find(".chart").querySelectorAll("path.line").length;
        await tab("settings");
        const isLr = (row) => row.children[0].textContent === "lr0";
        const value = () => all("#settings tbody tr").find(isLr).children[1].textContent;
        out.values = [value()];
        all(".chooser button")[1].click();
        out.values.push(value());
        return out;
        """,
        tmp_path,
        width=500,
    )
    assert seen["rows"] == ["one", "two"]
    assert "lr00.010.02" in seen["text"]  # the one setting that differs, with both values
    assert seen["wide"] <= 0  # nothing sticks out of the page
    assert seen["lines"] == 4, seen  # two curves of each run
    assert seen["values"] == ["0.01", "0.02"]


def test_the_page_is_whole_and_small(tmp_path: Path):
    page = write_report([make_run(tmp_path / "run")])
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "run" / "report.html"
    assert len(text.encode()) < BUDGET
    assert not re.search(r"""(src|href)=["'](?!#)""", text)  # nothing in the file names another
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
    assert main(["report", str(tmp_path / "nothing")]) == 2

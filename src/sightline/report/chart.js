"use strict";
// One line chart in SVG: hover reads values, dragging zooms, a double click (or the button) shows everything again.
// Charts of one group share their horizontal axis: zooming in one zooms all.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 240;
const PAD = { left: 52, right: 12, top: 12, bottom: 40 };

/** An SVG element with attributes; text is always text. */
function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

/** Up to about six round numbers in [low, high]. */
function ticks(low, high) {
  if (!(high > low)) return [low];
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

/** Powers of ten in [low, high], with 2 and 5 between where there are few. */
function logTicks(low, high) {
  const found = [];
  const few = Math.log10(high / low) < 2.5;
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
    for (const n of few ? [1, 2, 5] : [1]) {
      const value = n * 10 ** p;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  if (found.length > 1) return found.length > 7 ? found.filter((_, i) => i % Math.ceil(found.length / 6) === 0) : found;
  return ticks(low, high).filter((v) => v > 0);
}

/** A number in few characters. */
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e5)) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

/** Exponential running mean, unbiased at its start; gaps stay gaps. */
function smoothed(points, weight) {
  if (!weight) return points;
  let sum = 0, norm = 0;
  return points.map(([x, y]) => {
    if (y === null) return [x, y];
    sum = sum * weight + y * (1 - weight);
    norm = norm * weight + (1 - weight);
    return [x, sum / norm];
  });
}

/** Charts that share zoom, smoothing and scale. It outlives its charts: what is drawn anew looks as it did. */
class Group {
  constructor() {
    this.charts = [];
    this.hidden = new Map(); // title of a chart → names of the lines that are not shown
    this.view = null; // [low, high] of x; null shows all
    this.smoothing = 0;
    this.log = false;
    this.changed = () => {};
  }
  draw() {
    for (const chart of this.charts) chart.draw();
    this.changed();
  }
  zoom(view) {
    this.view = view;
    this.draw();
  }
}

class Chart {
  static all = []; // of the tab that is open
  static dragged = false; // one of them, just now

  /**
   * series: [{name, points: [[x, y|null]], colour, dash}]; marks: [{x, severity, text}];
   * options: {group, xName, whole: x are whole numbers, yRange: [low, high]}
   */
  constructor(title, series, marks, options) {
    Object.assign(this, { title, series, marks, options, group: options.group });
    if (!this.group.hidden.has(title)) this.group.hidden.set(title, new Set());
    this.hidden = this.group.hidden.get(title);
    this.element = el("figure", { class: "chart" });
    const heading = el("figcaption", {}, el("b", {}, title));
    if (series.length > 1 || options.legend) heading.append(this.legend());
    this.holder = el("div", { class: "plot" });
    this.hint = el("div", { class: "tooltip", hidden: "" });
    this.element.append(heading, this.holder);
    this.holder.append(this.hint);
    this.svg = svg("svg", { role: "img", "aria-label": title });
    this.holder.prepend(this.svg);
    this.listen();
    this.group.charts.push(this);
    Chart.all.push(this);
    // In the next frame: drawing changes sizes, which an observer may not do while it is told of them.
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(this.holder);
  }

  legend() {
    const list = el("span", { class: "legend" });
    for (const line of this.series) {
      const shown = String(!this.hidden.has(line.name));
      const button = el("button", { type: "button", "aria-pressed": shown, title: "show or hide" });
      button.append(el("i", { style: `border-top: 3px ${line.dash ? "dotted" : "solid"} ${line.colour}` }), line.name);
      button.addEventListener("click", () => {
        const off = !this.hidden.delete(line.name);
        if (off) this.hidden.add(line.name);
        button.setAttribute("aria-pressed", String(!off));
        this.draw();
      });
      list.append(button);
    }
    return list;
  }

  xRange() {
    if (this.group.view) return this.group.view;
    const all = this.series.flatMap((line) => line.points.map((p) => p[0]));
    const low = Math.min(...all), high = Math.max(...all);
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  }

  /** Whether the values are so far apart that only a log scale shows more than the largest (`log: "auto"`). */
  spread() {
    if (this.options.log !== "auto") return false;
    const all = this.series.flatMap((line) => line.points.map((p) => p[1])).filter((y) => y > 0).sort((a, b) => a - b);
    return all.length > 1 && all[all.length - 1] > 50 * all[Math.floor(all.length / 2)];
  }

  /** What is drawn: the lines that are shown, smoothed, and the range of y in the view. */
  prepare() {
    this.x = this.xRange();
    const log = this.log = this.group.log || this.spread();
    this.lines = this.series.filter((line) => !this.hidden.has(line.name)).map((line) => {
      const usable = line.points.map(([x, y]) => [x, log && y !== null && y <= 0 ? null : y]);
      return { ...line, raw: usable, shown: smoothed(usable, this.group.smoothing) };
    });
    const inside = this.lines.flatMap((line) => [...line.shown, ...line.raw])
      .filter(([x, y]) => y !== null && x >= this.x[0] && x <= this.x[1]).map((p) => p[1]);
    let low = Math.min(...inside), high = Math.max(...inside);
    if (!inside.length) [low, high] = log ? [0.1, 1] : [0, 1];
    if (this.options.yRange && !log) [low, high] = [Math.min(low, this.options.yRange[0]), Math.max(high, this.options.yRange[1])];
    // Smoothing a constant leaves differences in the last digits: an axis of those has no ticks that could be counted.
    if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
    else if (log) [low, high] = [low * (low / high) ** 0.05, high * (high / low) ** 0.05];
    else if (!this.options.yRange) [low, high] = [low - (high - low) * 0.05, high + (high - low) * 0.05];
    this.y = [low, high];
  }

  toX(value) {
    return PAD.left + ((value - this.x[0]) / (this.x[1] - this.x[0])) * (this.width - PAD.left - PAD.right);
  }
  toY(value) {
    const [low, high] = this.log ? this.y.map(Math.log) : this.y;
    const at = this.log ? Math.log(value) : value;
    return HEIGHT - PAD.bottom - ((at - low) / (high - low)) * (HEIGHT - PAD.top - PAD.bottom);
  }
  fromX(pixel) {
    return this.x[0] + ((pixel - PAD.left) / (this.width - PAD.left - PAD.right)) * (this.x[1] - this.x[0]);
  }

  draw() {
    this.width = this.holder.clientWidth;
    if (!this.width) return; // in a tab that is not open
    this.prepare();
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    this.element.dataset.from = this.x[0];
    this.element.dataset.to = this.x[1];
    this.axes();
    const clip = `clip${Chart.count = (Chart.count || 0) + 1}`;
    const box = svg("clipPath", { id: clip });
    box.append(svg("rect", { x: PAD.left, y: 0, width: Math.max(this.width - PAD.left - PAD.right, 1), height: HEIGHT }));
    const area = svg("g", { "clip-path": `url(#${clip})` });
    this.svg.append(box, area);
    for (const mark of this.marks.filter((m) => m.x >= this.x[0] && m.x <= this.x[1])) this.drawMark(mark);
    for (const line of this.lines) {
      if (this.group.smoothing) area.append(...this.paths(line.raw, line, "raw"));
      area.append(...this.paths(line.shown, line, "line"));
    }
    this.cross = svg("g", { class: "cross" });
    this.selection = svg("rect", { class: "selection", y: PAD.top, height: HEIGHT - PAD.top - PAD.bottom, width: 0 });
    this.svg.append(this.cross, this.selection);
  }

  axes() {
    const right = this.width - PAD.right, bottom = HEIGHT - PAD.bottom;
    for (const value of this.log ? logTicks(...this.y) : ticks(...this.y)) {
      const y = this.toY(value);
      this.svg.append(svg("line", { class: "grid", x1: PAD.left, x2: right, y1: y, y2: y }));
      this.svg.append(svg("text", { class: "tick", x: PAD.left - 6, y: y + 4, "text-anchor": "end" }, short(value)));
    }
    let marks = ticks(...this.x);
    if (this.options.whole) marks = marks.filter((v) => Number.isInteger(Number(v.toFixed(6))));
    for (const value of marks) {
      const x = this.toX(value);
      this.svg.append(svg("line", { class: "grid", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      this.svg.append(svg("text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, short(value)));
    }
    this.svg.append(svg("line", { class: "axis", x1: PAD.left, x2: right, y1: bottom, y2: bottom }));
    this.svg.append(svg("text", { class: "tick", x: (PAD.left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, this.options.xName));
  }

  drawMark(mark) {
    const x = this.toX(mark.x);
    this.svg.append(svg("line", { class: `mark ${mark.severity}`, x1: x, x2: x, y1: PAD.top, y2: HEIGHT - PAD.bottom }));
    this.svg.append(svg("path", { class: `mark ${mark.severity}`, d: `M${x - 5},${PAD.top - 9}h10l-5,9z` }));
  }

  /** The line, and dots for values without neighbours, which would not be seen as a line. */
  paths(points, line, kind) {
    let d = "", pen = false, dots = "";
    points.forEach(([x, y], i) => {
      if (y === null) { pen = false; return; }
      const at = `${this.toX(x).toFixed(1)},${this.toY(y).toFixed(1)}`;
      d += (pen ? "L" : "M") + at;
      if (!pen && (i + 1 >= points.length || points[i + 1][1] === null)) dots += `M${at}h0.1`;
      pen = true;
    });
    const path = svg("path", { class: kind, d, stroke: line.colour, "stroke-dasharray": line.dash || "none" });
    return dots ? [path, svg("path", { class: `dots ${kind}`, d: dots, stroke: line.colour })] : [path];
  }

  listen() {
    let start = null;
    const at = (event) => {
      const box = this.svg.getBoundingClientRect();
      return Math.max(PAD.left, Math.min(this.width - PAD.right, event.clientX - box.left));
    };
    const end = () => {
      start = null;
      Chart.dragged = false;
      this.selection.setAttribute("width", 0);
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = at(event);
      Chart.dragged = true;
      try { this.svg.setPointerCapture(event.pointerId); } catch { /* a pointer that a script made up */ }
    });
    this.svg.addEventListener("pointermove", (event) => {
      this.read(at(event));
      if (start === null) return;
      this.selection.setAttribute("x", Math.min(start, at(event)));
      this.selection.setAttribute("width", Math.abs(at(event) - start));
    });
    this.svg.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const [low, high] = [start, at(event)].sort((a, b) => a - b).map((pixel) => this.fromX(pixel));
      const wide = Math.abs(at(event) - start) > 8; // less is a click
      end();
      if (wide) this.group.zoom(this.widened(low, high));
    });
    this.svg.addEventListener("pointercancel", end);
    this.svg.addEventListener("pointerleave", () => { this.cross.replaceChildren(); this.hint.hidden = true; });
    this.svg.addEventListener("dblclick", () => this.group.zoom(null));
  }

  /** A view that has points in it: of neighbours that lie `step` apart at least two. */
  widened(low, high) {
    const step = this.options.whole ? 1 : 0.01;
    if (high - low >= step) return [low, high];
    const middle = this.options.whole ? Math.round((low + high) / 2) : (low + high) / 2;
    return [middle - step, middle + step];
  }

  /** Show the values at a pixel. */
  read(pixel) {
    const wanted = this.fromX(pixel);
    const xs = this.lines.flatMap((line) => line.shown.map((p) => p[0])).filter((x) => x >= this.x[0] && x <= this.x[1]);
    if (!xs.length) return;
    const x = xs.reduce((best, value) => (Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best));
    this.cross.replaceChildren(svg("line", { x1: this.toX(x), x2: this.toX(x), y1: PAD.top, y2: HEIGHT - PAD.bottom }));
    const rows = [el("b", {}, `${this.options.xName} ${short(x)}`)];
    for (const line of this.lines) {
      const point = line.shown.find((p) => p[0] === x);
      if (!point || point[1] === null) continue;
      this.cross.append(svg("circle", { cx: this.toX(x), cy: this.toY(point[1]), r: 3.5, fill: line.colour }));
      rows.push(el("span", {}, el("i", { style: `background: ${line.colour}` }), `${line.name} ${short(point[1])}`));
    }
    const near = this.marks.filter((mark) => Math.abs(this.toX(mark.x) - this.toX(x)) < 6);
    for (const mark of near) rows.push(el("em", { class: mark.severity }, mark.text));
    this.hint.replaceChildren(...rows);
    this.hint.hidden = false;
    const left = this.toX(x) > this.width / 2 ? this.toX(x) - this.hint.offsetWidth - 14 : this.toX(x) + 14;
    this.hint.style.left = `${Math.max(0, Math.min(left, this.width - this.hint.offsetWidth))}px`;
  }
}

/** An HTML element; children that are no elements become text, never markup. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// What the page shows, built from the JSON in it. Everything from a run is set as text: a class named like an element is text.

let DATA = JSON.parse(document.getElementById("data").textContent); // changes only under `sightline watch`
let RUNS = DATA.runs;
const MANY = RUNS.length > 1;
const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8", "--c9", "--c10", "--c11", "--c12"];
let current = 0; // the run that is shown where only one can be

// What a reader has set, kept when a tab is built anew: by another visit, or because the run went on.
const GROUP = new Group(); // of all curves over epochs
const VALUE_GROUPS = new Map(); // kind of metrics → group of its curves over confidence and recall
const SORTED = new Map(); // id of a table → [name of the column, whether downwards]
const SHOWN = new Map(); // title of pictures → kinds of boxes that are drawn
const FILTER = { text: "", all: false }; // of the settings

const colour = (i) => `var(${COLOURS[i % COLOURS.length]})`;
const percent = (value) => (value === null || value === undefined ? "–" : `${(value * 100).toFixed(1)}%`);
const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const plain = (name) => name.replace(/^metrics\//, "").replace(/\(B\)$/, "").replace(/\(P\)$/, " (keypoints)");

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const section = (title, ...children) => el("section", {}, el("h2", {}, title), ...children);
const note = (text) => el("p", { class: "note" }, text);
const card = (title, value, more) =>
  el("div", { class: "card" }, el("small", {}, title), el("strong", {}, value), more ? el("span", {}, more) : null);

/** A table whose columns sort: rows are lists of {text, value} or plain values. */
function table(columns, rows, options = {}) {
  const head = el("tr"), body = el("tbody");
  const fill = (list) => body.replaceChildren(...list.map((row) => {
    const line = el("tr");
    row.forEach((cell, i) => {
      const content = cell instanceof Object ? cell.text : cell;
      line.append(el("td", columns[i].number ? { class: "number" } : {}, content === null ? "–" : content));
    });
    return line;
  }));
  const key = (row, i) => (row[i] instanceof Object ? row[i].value : row[i]);
  const sort = (i, down) => {
    for (const cell of head.children) cell.removeAttribute("aria-sort");
    head.children[i].setAttribute("aria-sort", down ? "descending" : "ascending");
    fill([...rows].sort((a, b) => {
      const [x, y] = [key(a, i), key(b, i)];
      if (x === null || y === null) return (x === null) - (y === null); // what is not known is last either way
      const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
      return down ? -order : order;
    }));
  };
  columns.forEach((column, i) => {
    const button = el("button", { type: "button" }, column.name);
    const cell = el("th", column.number ? { class: "number", scope: "col" } : { scope: "col" }, button);
    button.addEventListener("click", () => {
      // Numbers are wanted with the largest first, names from A to Z; another click turns it round.
      const before = cell.getAttribute("aria-sort");
      const down = before ? before === "ascending" : Boolean(column.number);
      SORTED.set(options.id, [column.name, down]);
      sort(i, down);
    });
    head.append(cell);
  });
  const [name, down] = (options.id && SORTED.get(options.id)) || [];
  const sorted = columns.findIndex((column) => column.name === name);
  if (sorted >= 0) sort(sorted, down);
  else fill(rows);
  const made = el("table", options.id ? { id: options.id } : {}, el("thead", {}, head), body);
  return el("div", { class: "scroll" }, made);
}

// ------------------------------------------------------------------ the head of the page

function state(run) {
  if (run.finished) return run.planned && run.epochs < run.planned ? `ended after ${run.epochs} of ${run.planned} epochs` : `finished, ${run.epochs} epochs`;
  if (run.planned && run.epochs >= run.planned) return `all ${run.epochs} epochs`;
  return `${run.epochs} of ${run.planned ?? "?"} epochs: interrupted, or still going on`;
}
const over = (run) => run.finished || (run.planned && run.epochs >= run.planned);

function main(run) {
  const metrics = run.validation?.metrics ?? run.best?.metrics ?? {};
  return Object.entries(metrics).filter(([name]) => /mAP50-95\(|mAP50\(|precision\(|recall\(/.test(name));
}

function head() {
  const run = RUNS[0];
  const title = MANY ? `${RUNS.length} runs` : run.name;
  const line = MANY ? "" : [run.task, run.model, run.data_name].filter(Boolean).join(" · ");
  document.title = `${title} – sightline`;
  document.getElementById("top").replaceChildren(...[
    el("div", { class: "brand" }, el("b", {}, "sightline"), " report"),
    el("h1", {}, title),
    line ? el("p", {}, line) : null,
    MANY ? null : el("p", { class: `state ${over(run) ? "done" : "open"}` }, state(run)),
  ].filter((part) => part));
  document.getElementById("foot").replaceChildren(`Made ${DATA.made} by sightline ${DATA.version}, from ${RUNS.map((r) => r.folder).join(", ")}`);
}

/** Buttons that choose the run which a tab shows. */
function chooser() {
  if (!MANY) return null;
  const list = el("div", { class: "chooser" });
  RUNS.forEach((run, i) => {
    const button = el("button", { type: "button", "aria-pressed": String(i === current) });
    button.append(el("i", { style: `background: ${colour(i)}` }), run.name);
    button.addEventListener("click", () => { current = i; refresh(); });
    list.append(button);
  });
  return list;
}

// ------------------------------------------------------------------ overview

function overview() {
  if (MANY) return [compared(), section("Curves", metricCharts("metrics/mAP50-95"))];
  const run = RUNS[0];
  const cards = el("div", { class: "cards" });
  for (const [name, value] of main(run)) cards.append(card(plain(name), score(value), run.validation ? "of best.pt, after the run" : "at the best epoch"));
  if (run.best) cards.append(card("best epoch", String(run.best.epoch), `of ${run.epochs}`));
  cards.append(card("time", duration(run.seconds), run.epochs ? `${duration(run.seconds / run.epochs)} an epoch` : null));
  return [cards, section("What the diagnosis says", findings(run)), section("Curves", metricCharts("metrics/mAP50-95")), timing(run, true)];
}

function findings(run) {
  if (!run.marks.length) return note("Nothing wrong was found, and nothing went wrong on the way.");
  const order = { error: 0, warning: 1, note: 2 };
  const list = el("ul", { class: "findings" });
  for (const mark of [...run.marks].sort((a, b) => order[a.severity] - order[b.severity] || a.epoch - b.epoch)) {
    const when = mark.epoch ? `epoch ${mark.epoch}` : "before the first epoch";
    const again = mark.again ? `, and ${mark.again === 1 ? "once" : `${mark.again} times`} more` : "";
    list.append(el("li", { class: mark.severity }, el("b", {}, mark.title), el("small", {}, ` ${when}${again}`), el("p", {}, mark.text)));
  }
  return list;
}

function compared() {
  const names = [...new Set(RUNS.flatMap((run) => main(run).map(([name]) => name)))];
  const columns = [{ name: "run" }, { name: "epochs", number: true }, { name: "best at", number: true }, ...names.map((n) => ({ name: plain(n), number: true })), { name: "time", number: true }];
  const rows = RUNS.map((run, i) => {
    const values = Object.fromEntries(main(run));
    const name = el("span", { class: "run" }, el("i", { style: `background: ${colour(i)}` }), run.name);
    return [{ text: name, value: run.name }, run.epochs, run.best?.epoch ?? null,
      ...names.map((n) => ({ text: score(values[n]), value: values[n] ?? null })), { text: duration(run.seconds), value: run.seconds }];
  });
  const all = RUNS.map((run) => new Map(run.settings.map((s) => [s.name, s])));
  const defaults = new Map(RUNS.flatMap((run) => run.settings.map((s) => [s.name, s.default])));
  // A run of an older version did as the default of a setting says that came later; one without args.yaml is unknown.
  const value = (settings, name) => (settings.size ? (settings.get(name)?.value ?? defaults.get(name)) : null);
  const settingRows = [...defaults.keys()].filter((name) => name !== "save_dir" && name !== "name")
    .map((name) => [name, ...all.map((settings) => value(settings, name))]).filter(([, ...values]) => new Set(values).size > 1);
  return el("div", {}, section("Side by side", table(columns, rows, { id: "compared" })),
    section("Settings that differ", settingRows.length ? table([{ name: "setting" }, ...RUNS.map((r) => ({ name: r.name }))], settingRows, { id: "differ" }) : note("None: any difference is chance, or the code.")));
}

// ------------------------------------------------------------------ curves

const points = (run, values) => run.table.epoch.map((epoch, i) => [epoch, values[i] ?? null]);
const marksOf = (run) => run.marks.map((mark) => ({ x: Math.max(mark.epoch, 1), severity: mark.severity, text: `${mark.title}: ${mark.text}` }));

/** A chart of some columns: of one run in a colour each, of several in the colours of the runs. */
function columnsChart(title, names, read, options = {}) {
  const series = [];
  RUNS.forEach((run, r) => names.forEach(([column, label, dash], i) => {
    const values = read(run, column);
    if (!values || !values.some((v) => v !== null)) return;
    series.push({ name: MANY ? (names.length > 1 ? `${run.name}, ${label}` : run.name) : label, points: points(run, values), colour: colour(MANY ? r : i), dash: MANY ? dash : null });
  }));
  if (!series.length) return null;
  const marks = MANY ? [] : marksOf(RUNS[0]);
  return new Chart(title, series, marks, { group: GROUP, xName: "epoch", whole: true, ...options }).element;
}

const fromTable = (run, name) => run.table[name];
const fromTraces = (run, name) => run.traces[name];
const allColumns = () => [...new Set(RUNS.flatMap((run) => Object.keys(run.table)))];

function metricCharts(only) {
  const grid = el("div", { class: "charts" });
  for (const letter of ["B", "P", "M"]) {
    const title = { B: "", P: " of keypoints", M: " of masks" }[letter];
    grid.append(columnsChart(`mAP${title}`, [[`metrics/mAP50-95(${letter})`, "mAP50-95"], [`metrics/mAP50(${letter})`, "mAP50", "2 4"]], fromTable) ?? "");
    if (!only) grid.append(columnsChart(`Precision and recall${title}`, [[`metrics/precision(${letter})`, "precision"], [`metrics/recall(${letter})`, "recall", "2 4"]], fromTable) ?? "");
  }
  return grid;
}

function lossCharts() {
  const grid = el("div", { class: "charts" });
  const losses = [...new Set(allColumns().filter((n) => /^(train|val)\//.test(n)).map((n) => n.replace(/^(train|val)\//, "")))];
  for (const loss of losses) grid.append(columnsChart(loss.replace(/_/g, " "), [[`train/${loss}`, "training"], [`val/${loss}`, "validation", "2 4"]], fromTable) ?? "");
  return grid;
}

function otherCharts() {
  const grid = el("div", { class: "charts" });
  const known = /^(metrics\/(mAP50-95|mAP50|precision|recall)\([A-Z]\)|train\/|val\/|lr\/|epoch$|time$)/;
  for (const name of allColumns().filter((n) => !known.test(n))) grid.append(columnsChart(plain(name), [[name, plain(name)]], fromTable) ?? "");
  return grid;
}

function traceCharts() {
  const grid = el("div", { class: "charts" });
  const rates = allColumns().filter((n) => n.startsWith("lr/"));
  const alike = new Map(); // groups of parameters with the same rates are one curve
  for (const name of rates) {
    const key = JSON.stringify(RUNS.map((run) => run.table[name] ?? null));
    alike.set(key, [...(alike.get(key) ?? []), name]);
  }
  const shown = [...alike.values()].slice(0, MANY ? 1 : undefined);
  grid.append(columnsChart("Learning rate", shown.map((names, i) => [names[0], names.map((n) => n.replace("lr/", "")).join(" "), i ? "2 4" : null]), fromTable) ?? "");
  grid.append(columnsChart("Momentum", [["momentum", "momentum"]], fromTraces) ?? "");
  grid.append(columnsChart("Gradient norm", [["grad_norm", "median of the steps"], ["grad_norm_max", "largest", "2 4"]], fromTraces, { log: "auto" }) ?? "");
  grid.append(columnsChart("Gradients of head and body", [["head_gradient", "head"], ["body_gradient", "body", "2 4"]], fromTraces, { log: "auto" }) ?? "");
  grid.append(columnsChart("Update: |Δw| / |w| of a step", [["update", "all weights"]], fromTraces) ?? "");
  grid.append(columnsChart("Lag of the averaged weights", [["ema_lag", "lag"]], fromTraces) ?? "");
  const pace = (run) => (run.table.time ?? []).map((t, i, all) => (t === null || (i && all[i - 1] === null) ? null : t - (i ? all[i - 1] : 0)));
  grid.append(columnsChart("Seconds an epoch", [["time", "seconds"]], pace) ?? "");
  grid.append(columnsChart("Memory", [["memory_gb", "GB"]], fromTraces) ?? "");
  return grid;
}

function controls() {
  const slider = el("input", { type: "range", min: "0", max: "0.95", step: "0.05", value: String(GROUP.smoothing), "aria-label": "smoothing" });
  const shown = el("output", {}, String(GROUP.smoothing));
  slider.addEventListener("input", () => { GROUP.smoothing = Number(slider.value); shown.textContent = slider.value; GROUP.draw(); });
  const log = el("input", { type: "checkbox", id: "log" });
  log.checked = GROUP.log;
  log.addEventListener("change", () => { GROUP.log = log.checked; GROUP.draw(); });
  const reset = el("button", { type: "button", class: "reset" }, "show all epochs");
  reset.disabled = GROUP.view === null;
  reset.addEventListener("click", () => GROUP.zoom(null));
  GROUP.changed = () => { reset.disabled = GROUP.view === null; };
  return el("div", { class: "controls" }, el("label", {}, "smoothing ", slider, shown), el("label", { for: "log" }, log, " log scale"), reset,
    el("small", {}, "Drag over a curve to zoom into all, double click to come back."));
}

function curves() {
  if (!RUNS.some((run) => run.epochs)) return [note("No epoch is recorded yet.")];
  const parts = [controls(), section("Metrics", metricCharts()), section("Losses", lossCharts())];
  const others = otherCharts();
  if (others.children.length) parts.push(section("Other metrics", others));
  return [...parts, section("How it trained", traceCharts())];
}

// ------------------------------------------------------------------ validation

function validation() {
  const run = RUNS[current], found = run.validation;
  if (!found) return [chooser(), note("This run has no final validation yet (validation.json): it was interrupted, goes on, or ran before reports had tables by class.")];
  const kinds = Object.keys(found.curves);
  return [chooser(), section(`By class, ${found.images} images`, classTable(found, kinds)), ...kinds.map((kind) => valueCurves(found, kind)), confusion(found.confusion, found.conf)];
}

function classTable(found, kinds) {
  const measures = ["precision", "recall", "f1", "mAP50", "mAP50-95"];
  const label = (kind, name) => (kinds.length > 1 ? `${kind} ${name}` : name);
  const columns = [{ name: "class" }, { name: "images", number: true }, { name: "objects", number: true }, ...kinds.flatMap((k) => measures.map((m) => ({ name: label(k, m), number: true })))];
  const rows = found.classes.map((row) => [row.name, row.images, row.objects, ...kinds.flatMap((k) => measures.map((m) => bar(row[k][m])))]);
  return table(columns, rows, { id: "classes" });
}

/** A score with a bar behind it. */
function bar(value) {
  if (value === null || value === undefined) return null;
  const text = el("span", { class: "bar", style: `--part: ${(value * 100).toFixed(1)}%` }, score(value));
  return { text, value };
}

function valueCurves(found, kind) {
  if (!VALUE_GROUPS.has(kind)) VALUE_GROUPS.set(kind, new Group());
  const curve = found.curves[kind], group = VALUE_GROUPS.get(kind), grid = el("div", { class: "charts" });
  const draw = (title, key, xName, marks) => {
    const lines = [{ name: "all classes", points: curve.x.map((x, i) => [x, curve[key].mean[i]]), colour: "var(--text)" }];
    if (curve.classes.length > 1) curve.classes.forEach((name, c) => lines.push({ name, points: curve.x.map((x, i) => [x, curve[key].classes[c][i]]), colour: colour(c), dash: c >= COLOURS.length ? "2 4" : null }));
    grid.append(new Chart(title, lines, marks, { group, xName, yRange: [0, 1] }).element);
  };
  const best = [{ x: curve.best_conf, severity: "note", text: `best F1 at confidence ${score(curve.best_conf)}` }];
  draw("Precision over recall", "pr", "recall", []);
  draw("F1 over confidence", "f1", "confidence", best);
  draw("Precision over confidence", "precision", "confidence", best);
  draw("Recall over confidence", "recall", "confidence", best);
  const title = { Box: "Curves of boxes", Pose: "Curves of keypoints", Mask: "Curves of masks" }[kind] ?? `Curves (${kind})`;
  return section(title, note(`Best F1 at confidence ${score(curve.best_conf)}: predict conf=${score(curve.best_conf)} shows that balance.`), grid);
}

/** Which predictions count; a user's own validator need not say. */
const from = (conf) => (typeof conf === "number" ? `Predictions from confidence ${short(conf)} count. ` : "");

const MATRIX_SHOWN = 40; // classes; more cells could not be read

function confusion(found, conf) {
  if (!found) return null;
  const names = [...found.names, "background"], n = names.length;
  const sums = names.map((_, column) => found.matrix.reduce((sum, row) => sum + row[column], 0));
  const pairs = [];
  found.matrix.forEach((row, i) => row.forEach((count, j) => { if (count && i !== j) pairs.push([i, j, count]); }));
  pairs.sort((a, b) => b[2] - a[2]);
  const said = ([i, j, count]) => (i === n - 1 ? [`${names[j]} missed`, count, count / sums[j]] : j === n - 1 ? [`${names[i]} seen where nothing is`, count, null] : [`${names[j]} taken for ${names[i]}`, count, count / sums[j]]);
  const worst = table([{ name: "mistake" }, { name: "times", number: true }, { name: "of the class", number: true }],
    pairs.slice(0, 15).map((pair) => { const [text, count, part] = said(pair); return [text, count, { text: percent(part), value: part }]; }), { id: "mistakes" });
  const parts = [note(`${from(conf)}Columns are what is there, rows what was predicted; background: missed, or invented.`)];
  if (n - 1 <= MATRIX_SHOWN) {
    const grid = el("table", { class: "matrix" }), top = el("tr", {}, el("th", {}, ""));
    names.forEach((name) => top.append(el("th", { scope: "col", title: name }, el("span", {}, name))));
    grid.append(top);
    found.matrix.forEach((row, i) => {
      const line = el("tr", {}, el("th", { scope: "row", title: names[i] }, names[i]));
      row.forEach((count, j) => {
        const part = sums[j] ? count / sums[j] : 0;
        const cell = el("td", { style: `--part: ${(part * 100).toFixed(0)}%`, title: `${count} × ${names[j]} → ${names[i]}, ${percent(part)} of its column` }, count ? String(count) : "");
        if (i === j && i < n - 1) cell.className = "right";
        if (part > 0.55) cell.classList.add("dark");
        line.append(cell);
      });
      grid.append(line);
    });
    parts.push(el("div", { class: "scroll" }, grid));
  }
  if (pairs.length) parts.push(el("h3", {}, "Most frequent mistakes"), worst);
  return section("Confusion matrix", ...parts);
}

// ------------------------------------------------------------------ pictures

const OF_TRAINING = /[Tt]raining/; // titles of pictures that show the data rather than what became of it

function pictures() {
  const run = RUNS[current], parts = [chooser()];
  for (const [kind, title] of [["worst", "Worst validation images"], ["best", "Best validation images"]]) {
    const rows = run.showcase.filter((row) => row.kind === kind);
    if (rows.length) parts.push(showcase(title, rows));
  }
  const titles = [...new Set(run.pictures.shown.map((p) => p.title))].filter((title) => !OF_TRAINING.test(title));
  for (const title of titles) parts.push(section(title, gallery(run.pictures.shown.filter((p) => p.title === title))));
  if (run.pictures.left_out.length) parts.push(note(`Left out, because the page stays below 3 MB: ${run.pictures.left_out.join(", ")}. They lie in the run folder.`));
  if (parts.length === 1) parts.push(note("This run left no pictures (plots=False)."));
  return parts;
}

const KINDS = { label: "labels", right: "right", wrong: "wrong", missed: "missed" };

/** Images with what is labelled and what was predicted drawn over them; each kind can be hidden. */
function showcase(title, rows) {
  if (!SHOWN.has(title)) SHOWN.set(title, new Set(["right", "wrong", "missed"]));
  const grid = el("div", { class: "gallery" }), shown = SHOWN.get(title), switches = el("div", { class: "legend" });
  const fill = () => grid.replaceChildren(...rows.map((row) => {
    const button = el("button", { type: "button", title: "enlarge" }, overlaid(row, shown));
    button.addEventListener("click", () => view(row.name, () => overlaid(row, shown)));
    const text = `${row.name}: F1 ${score(row.f1)}, ${row.objects} objects, ${row.errors} ${row.errors === 1 ? "mistake" : "mistakes"}`;
    return el("figure", {}, button, el("figcaption", {}, text));
  }));
  for (const [kind, name] of Object.entries(KINDS)) {
    const button = el("button", { type: "button", "aria-pressed": String(shown.has(kind)) });
    button.append(el("i", { class: `key ${kind}` }), name);
    button.addEventListener("click", () => {
      if (!shown.delete(kind)) shown.add(kind);
      button.setAttribute("aria-pressed", String(shown.has(kind)));
      fill();
    });
    switches.append(button);
  }
  fill();
  return section(title, note(`${from(RUNS[current].validation?.conf)}A right box overlaps an object of its class by more than half.`), switches, grid);
}

function overlaid(row, shown) {
  const { width: w, height: h } = row, drawing = svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "overlaid", role: "img", "aria-label": row.name });
  drawing.append(svg("image", { href: row.uri, width: w, height: h }));
  const size = Math.max(4, Math.min(14, w / 30)), line = Math.max(0.6, w / 260);
  for (const box of row.boxes.filter((b) => shown.has(b.kind))) {
    const [x1, y1, x2, y2] = [box.box[0] * w, box.box[1] * h, box.box[2] * w, box.box[3] * h];
    const group = svg("g", { class: box.kind });
    group.append(svg("title", {}, `${KINDS[box.kind]}: ${box.text}${box.score === undefined ? "" : ` ${box.score.toFixed(2)}`}`));
    group.append(svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, "stroke-width": line }));
    for (const [x, y] of box.points ?? []) group.append(svg("circle", { cx: x * w, cy: y * h, r: line * 1.6 }));
    const text = `${box.text}${box.score === undefined ? "" : ` ${box.score.toFixed(2)}`}`;
    group.append(svg("text", { x: Math.max(1, x1), y: y1 > size + 2 ? y1 - 3 : y1 + size, "font-size": size, "stroke-width": size / 5 }, text));
    drawing.append(group);
  }
  return drawing;
}

function gallery(list) {
  const grid = el("div", { class: "gallery" });
  for (const picture of list) {
    const image = el("img", { src: picture.uri, alt: `${picture.title}: ${picture.file}`, loading: "lazy", width: picture.width, height: picture.height });
    const button = el("button", { type: "button", title: "enlarge" }, image);
    button.addEventListener("click", () => view(picture.file, () => el("img", { src: picture.uri, alt: picture.file, width: picture.width, height: picture.height }), picture.file));
    grid.append(el("figure", {}, button, el("figcaption", {}, picture.file)));
  }
  return grid;
}

/** A file of the run itself, which only whoever serves the page can give. */
const original = (file, text) => (DATA.every ? el("a", { href: `files/${encodeURIComponent(file)}`, target: "_blank", rel: "noopener" }, text) : null);

/** A picture in full; a click or the wheel makes it larger, dragging its scroll bars moves it. */
function view(title, make, file = null) {
  const viewer = document.getElementById("viewer"), inner = make();
  let zoom = 1;
  const base = Math.min(1400, window.innerWidth - 40);
  const frame = el("div", { class: "frame" }, inner);
  const resize = (factor) => { zoom = Math.max(1, Math.min(8, zoom * factor)); inner.style.width = `${base * zoom}px`; viewer.dataset.zoom = zoom; };
  inner.style.height = "auto";
  inner.style.maxWidth = "none";
  inner.addEventListener("click", () => resize(zoom >= 4 ? 0.01 : 2));
  frame.addEventListener("wheel", (event) => { event.preventDefault(); resize(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
  const close = el("button", { type: "button" }, "close");
  close.addEventListener("click", () => viewer.close());
  viewer.replaceChildren(el("div", { class: "bar" }, el("b", {}, title), el("small", {}, "click or wheel: larger"), file && original(file, "as it is on the disk"), close), frame);
  resize(1);
  viewer.showModal();
}

// ------------------------------------------------------------------ data

function dataTab() {
  const run = RUNS[current], parts = [chooser()], setup = run.setup ?? {}, data = run.data;
  const cards = el("div", { class: "cards" });
  for (const [title, value] of [["training images", setup.train_images], ["validation images", setup.val_images], ["objects", setup.objects], ["classes", setup.class_names?.length], ["without objects", setup.train_images !== undefined && setup.labelled_images !== undefined ? setup.train_images - setup.labelled_images : undefined], ["duplicates", setup.duplicates]])
    if (typeof value === "number") cards.append(card(title, value.toLocaleString("en")));
  if (cards.children.length) parts.push(cards);
  if (setup.class_names?.length) {
    const total = setup.class_counts.reduce((a, b) => a + b, 0) || 1, most = Math.max(...setup.class_counts, 1);
    const rows = setup.class_names.map((name, i) => {
      const count = setup.class_counts[i] ?? 0;
      return [String(name), { text: el("span", { class: "bar", style: `--part: ${(100 * count) / most}%` }, count.toLocaleString("en")), value: count }, { text: percent(count / total), value: count }];
    });
    parts.push(section("Objects of each class, training", table([{ name: "class" }, { name: "objects", number: true }, { name: "part", number: true }], rows, { id: "balance" })));
  }
  if (data?.sides) parts.push(section("How large objects are", histogram(data.sides, data.side_edges, "√(width × height) in pixels of the network input", (low, high) => `${low}–${high}`), note(data.text ?? "")));
  if (data?.per_image) parts.push(section("Objects in an image", histogram(data.per_image, data.per_image_edges, "objects", (low, high) => (high - low > 1 ? `${low}–${high - 1}` : String(low)))));
  const of = run.pictures.shown.filter((p) => OF_TRAINING.test(p.title));
  for (const title of new Set(of.map((p) => p.title))) parts.push(section(title, gallery(of.filter((p) => p.title === title))));
  if (parts.length === 1) parts.push(note("This run recorded nothing about its data."));
  return parts;
}

/** Bars: counts between edges; `label` says what lies between two of them. */
function histogram(counts, edges, name, label) {
  const used = counts.length - [...counts].reverse().findIndex((n) => n > 0); // empty bars at the end say nothing
  counts = counts.slice(0, used);
  const most = Math.max(...counts, 1), list = el("div", { class: "histogram", role: "img", "aria-label": name });
  counts.forEach((count, i) => {
    const between = label(edges[i], edges[i + 1]);
    list.append(el("div", { title: `${between}: ${count}` }, el("i", { style: `height: ${(100 * count) / most}%` }), el("span", {}, between)));
  });
  return el("figure", { class: "bars" }, list, el("figcaption", {}, name));
}

// ------------------------------------------------------------------ settings

function settings() {
  const run = RUNS[current];
  if (!run.settings.length) return [chooser(), note("There is no args.yaml in the run folder.")];
  const filter = el("input", { type: "search", placeholder: "find a setting", "aria-label": "find a setting" });
  const all = el("input", { type: "checkbox", id: "all-settings" });
  filter.value = FILTER.text;
  all.checked = FILTER.all;
  const holder = el("div");
  const fill = () => {
    const wanted = filter.value.trim().toLowerCase();
    const rows = run.settings.filter((s) => (all.checked || wanted || s.origin !== "default") && (s.name.includes(wanted) || s.value.toLowerCase().includes(wanted)))
      .map((s) => [s.name, s.value, s.default, { text: el("span", { class: "origin" }, s.origin), value: s.origin }]);
    holder.replaceChildren(rows.length ? table([{ name: "setting" }, { name: "value" }, { name: "default" }, { name: "origin" }], rows, { id: "settings" }) : note("No setting fits."));
  };
  filter.addEventListener("input", () => { FILTER.text = filter.value; fill(); });
  all.addEventListener("change", () => { FILTER.all = all.checked; fill(); });
  fill();
  return [chooser(), el("div", { class: "controls" }, filter, el("label", { for: "all-settings" }, all, " also those at their default")), holder];
}

// ------------------------------------------------------------------ the run: commands, time, environment

function timing(run, brief) {
  if (!run.timing) return brief ? null : section("Where the time went", note("This run recorded no times."));
  const total = Object.values(run.timing.parts).reduce((a, b) => a + b, 0) || 1, line = el("div", { class: "split" }), legend = el("div", { class: "legend" });
  Object.entries(run.timing.parts).forEach(([name, seconds], i) => {
    if (!seconds) return;
    line.append(el("i", { style: `width: ${(100 * seconds) / total}%; background: ${colour(i)}`, title: `${name}: ${duration(seconds)}` }));
    legend.append(el("span", {}, el("i", { style: `background: ${colour(i)}` }), `${name} ${percent(seconds / total)}`, el("small", {}, ` ${duration(seconds / run.timing.epochs)} an epoch`)));
  });
  return section("Where the time went", line, legend, el("p", {}, run.timing.verdict), brief ? null : preparing(run.timing));
}

/** What load and augment mean: they go on beside the network, and only what it waited for costs time. */
function preparing({ work, epochs }) {
  if (!work) return null;
  const who = work.workers ? `${work.workers} worker ${work.workers === 1 ? "process" : "processes"}` : "the training process itself";
  return note(`Batches were prepared by ${who}: ${duration(work.load / epochs)} of reading and ${duration(work.augment / epochs)} of augmenting an epoch. ` +
    "The bar has only the part of it that the network waited for, divided in the same proportion.");
}

function runTab() {
  const run = RUNS[current], list = el("div", { class: "commands" });
  for (const row of run.commands) {
    const code = el("code", {}, row.command), copy = el("button", { type: "button" }, "copy");
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(row.command); copy.textContent = "copied"; } catch {
        // A file that was opened from the disk may not use the clipboard: select, so that Ctrl-C does.
        getSelection().selectAllChildren(code);
        copy.textContent = "selected";
      }
    });
    list.append(el("div", {}, el("b", {}, row.title), el("small", {}, row.what), el("pre", {}, code), copy));
  }
  const parts = [chooser(), section("Commands", run.environment?.folder ? note(`Started in ${run.environment.folder}; relative paths are below it.`) : null, list), timing(run, false)];
  if (DATA.every) parts.push(section("Files", el("p", { class: "files" }, ...["results.csv", "events.jsonl", "args.yaml"].map((file) => original(file, file)))));
  const facts = Object.entries(run.environment ?? {}).filter(([, value]) => value !== null);
  if (facts.length) parts.push(section("Environment", table([{ name: "what" }, { name: "value" }], facts.map(([name, value]) => [name.replace(/_/g, " "), String(value)]), { id: "environment" })));
  return parts;
}

// ------------------------------------------------------------------ tabs

const TABS = [["Overview", overview], ["Curves", curves], ["Validation", validation], ["Pictures", pictures], ["Data", dataTab], ["Settings", settings], ["Run", runTab]];

function refresh() {
  const open = decodeURIComponent(location.hash.slice(1)).toLowerCase();
  const [name, build] = TABS.find(([title]) => title.toLowerCase() === open) ?? TABS[0];
  const tabs = document.getElementById("tabs");
  for (const tab of tabs.children) tab.setAttribute("aria-selected", String(tab.textContent === name));
  const chosen = tabs.querySelector('[aria-selected="true"]'); // on a phone the row of tabs is wider than the window
  tabs.scrollLeft = chosen.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - chosen.offsetWidth) / 2;
  for (const group of [GROUP, ...VALUE_GROUPS.values()]) group.charts = [];
  Chart.all = [];
  document.getElementById("main").replaceChildren(...build().filter((part) => part));
  document.getElementById("main").dataset.tab = name;
  for (const chart of Chart.all) chart.draw(); // now that they have a width
}

// ------------------------------------------------------------------ the run goes on: `sightline watch` serves this page

/** Ask for what is new every few seconds, and show it where the reader is. */
function follow() {
  const light = el("p", { class: "state live" }, "live");
  let tag = DATA.tag, next = null;
  const look = async () => {
    let lost = "";
    try {
      if (document.hidden) return; // nobody looks, so the machine may train
      const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) [tag, next] = [answer.headers.get("ETag"), await answer.json()];
      else if (answer.status !== 304) lost = await answer.text();
    } catch {
      lost = "sightline watch has ended; this is what it knew last";
    } finally {
      if (next && !busy()) {
        [DATA, RUNS, next] = [next, next.runs, null];
        head();
        rebuild();
      }
      light.textContent = lost || (next ? "live, but waits while you drag, type or have text selected" : "live");
      light.classList.toggle("lost", lost !== "");
      document.getElementById("top").append(light);
      setTimeout(look, DATA.every * 1000);
    }
  };
  look();
}

/** Whether the reader is in the middle of something that new elements would take out of their hands. */
const busy = () => Chart.dragged || document.activeElement?.type === "search" || !getSelection().isCollapsed;

function rebuild() {
  const place = scrollY;
  refresh();
  scrollTo(0, place);
}

head();
for (const [name] of TABS) document.getElementById("tabs").append(el("a", { role: "tab", href: `#${name.toLowerCase()}` }, name));
addEventListener("hashchange", refresh);
refresh();
if (DATA.every) follow();

// What the page draws; page.js has what it draws from.

// Beside the raster there may be a scroll bar; what lies below it keeps that much free, too.
const bar = () => $("raster").parentElement.offsetWidth - $("raster").parentElement.clientWidth;
// Before the first layout, and in parts that are not shown, the width is 0.
const scale = (svg) => Math.max(svg.clientWidth - LEFT - RIGHT - (["axis", "strip"].includes(svg.id) ? bar() : 0), 1);
const xAt = (svg) => (time) => LEFT + time / model.window_length * scale(svg);
const timeAt = (svg, event) => (event.clientX - svg.getBoundingClientRect().left - LEFT) / scale(svg) * model.window_length;
const rowHeight = () => Math.max(7, Math.min(16, 330 / view.unit_ids.length));
const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);
const pathUnit = () => (view.unit.endsWith("/s") ? view.unit.slice(0, -2) : ""); // of the integral of a velocity
const numChannels = () => (view.targets.values[0] ?? now?.values[0] ?? []).length;

function short(value) {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return value && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

// The largest of 1, 2 and 5 times a power of ten that is not above `limit`.
function nice(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  return [5, 2, 1].map((k) => k * power).find((value) => value <= limit) ?? power;
}

function shape(name, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

const path = (kind, d) => shape("path", { class: kind, d });
const dot = (kind, cx, cy, r) => shape("circle", { class: kind, cx, cy, r });
const label = (x, y, text, anchor = "start") => shape("text", { x, y, "text-anchor": anchor }, text);
// The `d` of a path through points [x, y]; null where it is interrupted.
const trace = (points) => points
  .map((p, i) => p && `${i && points[i - 1] ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");

function fill(svg, height, nodes) {
  svg.setAttribute("height", height);
  svg.replaceChildren(...nodes.flat(2));
}

function timeGrid(svg, top, bottom, labels = true) {
  return [0, 1, 2, 3, 4, 5].map((fifth) => {
    const time = fifth / 5 * model.window_length, x = xAt(svg)(time), text = short(time) + (fifth === 5 ? " s" : "");
    return [path("grid", `M${x} ${top}V${bottom}`), ...(labels ? [label(x, bottom + 14, text, "middle")] : [])];
  });
}

function drawSpikes() {
  const svg = $("raster"), x = xAt(svg), height = rowHeight(), units = view.unit_ids.length, every = Math.ceil(26 / height);
  const tick = (s) => `M${x(s.time).toFixed(1)} ${(s.unit * height + 0.5).toFixed(1)}v${(height - 1).toFixed(1)}`;
  const ticks = (kind, wanted) => path(kind, spikes.filter(wanted).map(tick).join(""));
  fill(svg, units * height, [
    timeGrid(svg, 0, units * height, false),
    shape("rect", { class: "band", x: LEFT, y: cursor.unit * height, width: scale(svg), height }),
    view.unit_ids.map((_, unit) => unit % every ? []
      : label(LEFT - 8, Math.max((unit + 0.5) * height + 4, 10), view.unit_labels[unit], "end")).flat(),
    ticks("spike", (s) => s.alive && s.original),
    ticks("removed", (s) => !s.alive && s.original),
    ticks("added", (s) => s.alive && !s.original),
    path("pointer", `M${x(cursor.time)} ${cursor.unit * height}v${height}`),
  ]);
  fill($("axis"), 18, [timeGrid($("axis"), -1, 2)]);
  drawCounts();
  drawTokens();
}

function drawCounts() {
  const alive = spikes.filter((s) => s.alive).length, units = view.unit_ids.length;
  for (const [name, count] of [["spike", alive], ["start", units], ["stop", units], ["all", alive + 2 * units]])
    $(`num_${name}`).textContent = count.toLocaleString("en");
  $("undo").disabled = !history.length;
  $("reset").disabled = !edits().length;
}

function drawTokens() {
  const own = spikes.filter((s) => s.unit === cursor.unit && (s.alive || s.original)).sort((a, b) => a.time - b.time);
  const chip = (textContent, className) => Object.assign(document.createElement("li"), { textContent, className });
  const chips = own.map((s) => chip(`${s.time.toFixed(4)} s`, s.alive ? (s.original ? "" : "new") : "gone"));
  const name = view.unit_ids[cursor.unit], here = near(cursor.unit, cursor.time, 0.0005);
  $("tokens").replaceChildren(chip("start 0 s", "edge"), ...chips, chip(`stop ${short(model.window_length)} s`, "edge"));
  $("unit").textContent = name;
  $("pointer").textContent = `${name}, ${cursor.time.toFixed(3)} s`
    + (here ? (here.alive ? ": a spike" : ": a spike that is removed") : "");
  $("silence").disabled = !own.some((s) => s.alive);
}

function drawQueries() {
  const svg = $("strip"), x = xAt(svg), times = queryTimes(), shown = grid ?? measuredGrid();
  const ticks = (some, y, height) => some.map((t) => `M${x(t).toFixed(1)} ${y}v${height}`).join("");
  fill(svg, 62, [
    timeGrid(svg, 4, 46),
    path("sample", ticks(view.query_times, 38, 6)),
    path("query", ticks(times, 14, 18)),
    times.length ? [times[0], times.at(-1)].map((t) => dot("now", x(t), 11, 4.5)) : [],
  ]);
  for (const name of ["number", "rate", "offset"]) $(name).value = shown[name];
  $("number_text").textContent = times.length < shown.number ? `${times.length} of ${shown.number} fit` : times.length;
  $("rate_text").textContent = `${short(shown.rate)} Hz`;
  $("offset_text").textContent = `${Math.round(1000 * shown.offset)} ms`;
  $("as_measured").disabled = !grid;
}

// Curves [class, {times, values}, channel], with zero in the middle of a panel that reaches to ±reach.
function panel(svg, place, reach, curves, name) {
  const x = xAt(svg), y = (value) => PANEL * (place + 0.5) - value / reach * (PANEL / 2 - 11), tick = nice(0.85 * reach);
  const levels = [-tick, 0, tick].map((value) => [
    path("grid", `M${LEFT} ${y(value)}H${LEFT + scale(svg)}`),
    label(LEFT - 6, y(value) + 4, short(value).replace("-", "−"), "end"),
  ]);
  const lines = curves.map(([kind, { times, values }, channel]) => {
    const points = times.map((time, i) => values[i][channel] === null ? null : [x(time), y(values[i][channel])]);
    const dots = kind === "now" && times.length <= 60 ? points.filter((p) => p).map((p) => dot(kind, ...p, 2.8)) : [];
    return [path(kind, trace(points)), ...dots];
  });
  return [...levels, ...lines, label(LEFT + 4, PANEL * place + 11, name)].flat();
}

const shownSeries = () => [["measured", view.targets], ["before", base !== now && base], ["now", now]].filter(([, s]) => s);
const reachOf = (series) => 1.05 * Math.max(...series.flatMap((s) => s.values).flat().map(Math.abs), 1e-6);

function drawCurves() {
  const svg = $("curves"), channels = [...Array(numChannels()).keys()], series = shownSeries();
  const name = (c) => channels.length < 4 ? "xyz"[c] : `channel ${c + 1}`;
  const titled = (c) => view.unit ? `${name(c)} (${view.unit})` : name(c);
  const reach = reachOf(series.map(([, s]) => s));
  const panels = channels.map((c) => panel(svg, c, reach, series.map(([kind, s]) => [kind, s, c]), titled(c)));
  const change = now && edits().length ? { times: now.times, values: differences(now.times, now, base) } : null;
  if (change) {
    const kinds = ["change", "change second", "change third"], text = ["solid", "dashed", "dotted"];
    const key = channels.length < 4 ? `: ${channels.map((c) => `${name(c)} ${text[c]}`).join(", ")}` : "";
    const curves = channels.map((c) => [kinds[c % 3], change, c]);
    panels.push(panel(svg, channels.length, reachOf([change]), curves, `change${view.unit && ` (${view.unit})`}${key}`));
  }
  fill(svg, PANEL * panels.length + 18, [timeGrid(svg, 0, PANEL * panels.length), ...panels]);
  $("change_key").textContent = change ? "change" : "";
  $("quantity").textContent = view.unit ? `${view.quantity} in ${view.unit}` : `${view.quantity}, in the units of the recording`;
  $("change").textContent = change ? withUnit(short(Math.max(0, ...lengths(change.values))), view.unit) : "–";
  for (const [id, one] of [["error_before", base], ["error_now", now]]) {
    const errors = now ? lengths(differences(now.times, one, view.targets)) : [];
    $(id).textContent = errors.length ? withUnit(short(Math.sqrt(errors.reduce((sum, d) => sum + d * d, 0) / errors.length)), view.unit) : "–";
  }
}

function drawPath() {
  const svg = $("path"), channels = numChannels(), drawn = channels === 2 ? trajectories() : [];
  $("path_text").textContent = channels === 2 ? "" : `A trajectory needs two channels; here are ${channels}.`;
  if (!drawn.length) return fill(svg, 0, []);
  const width = svg.clientWidth, height = Math.min(width, 300);
  const points = [[0, 0], ...drawn.flatMap(([, p]) => p)].filter((p) => p);
  const ranges = [0, 1].map((c) => points.map((p) => p[c])).map((some) => [Math.min(...some), Math.max(...some)]);
  const [middleX, middleY] = ranges.map(([low, high]) => (low + high) / 2);
  const extent = Math.max(...ranges.map(([low, high]) => high - low), 1e-6);
  const pixels = height / (1.15 * extent), step = nice(extent / 2);
  const x = (v) => width / 2 + (v - middleX) * pixels, y = (v) => height / 2 - (v - middleY) * pixels;
  const marks = (middle) => Array.from({ length: 41 }, (_, i) => (Math.round(middle / step) + i - 20) * step);
  const ends = drawn.map(([kind, p]) => [kind, p.findLast((q) => q)]).filter(([kind, end]) => end && kind !== "before");
  fill(svg, height, [
    marks(middleX).map((v) => path("grid", `M${x(v)} 0V${height}`)),
    marks(middleY).map((v) => path("grid", `M0 ${y(v)}H${width}`)),
    drawn.map(([kind, p]) => path(kind, trace(p.map((q) => q && [x(q[0]), y(q[1])])))),
    ends.map(([kind, end]) => dot(kind, x(end[0]), y(end[1]), 4.5)),
  ]);
  $("path_text").textContent = `Squares of ${withUnit(short(step), pathUnit())}; a dot marks the end. ` + (view.position
    ? "Measured is the recorded position; the model's is its velocity, integrated."
    : "This session has no position: both are the velocity, integrated.");
}

function drawAnswer() { drawCurves(); drawPath(); }

// Why the window is another one than that which was typed.
function outside() {
  if (wanted === null || between(wanted, ...session.starts) === wanted) return "";
  const [first, last] = session.starts.map((time) => time.toFixed(2));
  return ` You typed ${wanted} s; windows start from ${first} to ${last} s.`;
}

function drawAll() {
  const [from, to] = [view.start, view.start + model.window_length].map((time) => time.toFixed(2));
  const splits = view.splits.length ? `the ${view.splits.join(" and the ")} split` : "no split";
  const learned = view.splits.includes("train") && session.known ? "; the model may have learned from this" : "";
  $("place").textContent = `${from} to ${to} s of the recording, in ${splits}${learned}.${outside()}`;
  if (wanted === null) $("seconds").value = Number(view.start.toFixed(6));
  $("app").classList.toggle("undecoded", Boolean(view.problem));
  $("reason_text").textContent = view.problem ?? "";
  drawSpikes();
  if (view.problem) return;
  drawQueries();
  drawAnswer();
}

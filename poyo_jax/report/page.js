"use strict";
// Draws the numbers in #content. Every part has a function that draws all of it; changed controls draw it again.
const content = JSON.parse(document.getElementById("content").textContent);
const ARRAYS = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array };
const PALETTES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"],
  dark: ["#56b4e9", "#ff9d4d", "#2fc79a", "#eaa3cb", "#f5c542", "#9cc8ff", "#bda2e6", "#b8b8b8"],
};
const RATES = { light: "Viridis", dark: [[0, "#5c6fd6"], [0.5, "#34c3a2"], [1, "#f7e94b"]] };
const MAX_LEGEND = 12;
const $ = (id) => document.getElementById(id);
const redraws = [];
const dark = matchMedia("(prefers-color-scheme: dark)");
const scheme = () => (dark.matches ? "dark" : "light");
const palette = (place) => PALETTES[scheme()][place % PALETTES.light.length];
const LABEL = content.metric.label, BEST = content.metric.perfect;

// --- numbers and text

function numbers(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
  return new ARRAYS[packed.kind](bytes.buffer);
}

function text(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return (Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(3)).replace("-", "−");
}

// Three digits and the unit, as in "12.3 cm/s".
const measured = (value, unit) => `${Number(value.toPrecision(3))}${unit ? ` ${unit}` : ""}`.replace("-", "−");
const named = (name, unit) => (unit ? `${name} (${unit})` : name);
const digits = (unit) => `%{y:.3~g}${unit ? ` ${unit}` : ""}`;

function element(name, inner, parent) {
  const made = document.createElement(name);
  made.textContent = inner;
  parent.append(made);
  return made;
}

// --- plots

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function draw(id, traces, layout) {
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line") };
  const whole = {
    height: 320, margin: { l: 52, r: 12, t: 34, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("ink"), size: 12, family: "system-ui, sans-serif" }, colorway: PALETTES[scheme()], hovermode: "closest",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, ...layout,
  };
  for (const name of Object.keys(whole).filter((name) => /^[xy]axis\d*$/.test(name))) whole[name] = { ...axis, ...whole[name] };
  Plotly.react(id, traces, whole, { responsive: true, displaylogo: false, displayModeBar: "hover", scrollZoom: false });
}

// The axis of a score: from zero, or the worst one that is shown, to the best that there is.
function scoreAxis(values) {
  if (BEST === null || !content.metric.up) return { rangemode: "tozero" };
  return { range: [Math.max(-0.5, Math.min(0, ...values.filter((value) => value !== null))), BEST] };
}

const title = (words) => ({ text: words, x: 0, xanchor: "left", font: { size: 13 } });
const line = (name, x, y, shade, more) => ({ type: "scatter", mode: "lines", name, x, y, line: { color: shade, width: 1.8 }, ...more });

function part(id, make) {
  const section = $(id), given = content[id];
  if (given.absent) return absent(section, given.absent);
  const redraw = make(given);
  redraw();
  redraws.push(redraw);
}

function absent(section, why) {
  for (const child of [...section.children]) child.hidden = child.tagName !== "H2";
  element("p", why, section).className = "absent";
}

function fill(select, names) {
  for (const name of names) element("option", name, select);
}

// --- parts

function highlights() {
  $("model").textContent = content.model;
  for (const [name, value] of Object.entries(content.highlights)) {
    const entry = element("div", "", $("highlights"));
    element("dt", name, entry);
    element("dd", value, entry);
  }
}

function table(rows) {
  const columns = Object.keys(rows[0]), [head, body] = ["thead", "tbody"].map((name) => element(name, "", $("table")));
  const header = element("tr", "", head);
  for (const name of columns) element("th", name, header);
  for (const row of rows) {
    const cells = element("tr", "", body);
    for (const name of columns) element("td", text(row[name]), cells);
  }
  return () => {};
}

function training(given) {
  $("training_note").textContent = given.note;
  return () => {
    draw("loss", [line("loss", given.loss.steps, given.loss.values, colour("accent"))],
      { title: title("Loss"), xaxis: { title: { text: "step" } }, yaxis: { type: "log" } });
    const single = Object.entries(given.sessions).map(([name, curve]) =>
      line(name, curve.steps, curve.values, colour("soft"), { hovertemplate: `${name}: %{y:.3f} at step %{x}<extra></extra>`, opacity: 0.45, line: { color: colour("soft"), width: 1 }, showlegend: false }));
    const mean = line("mean", given.valid.steps, given.valid.values, colour("accent"), { line: { color: colour("accent"), width: 3 }, showlegend: false });
    draw("valid", [...single, mean],
      { title: title(`Validation ${content.chosen ?? LABEL}: sessions, and their mean`), xaxis: { title: { text: "step" } },
        yaxis: content.chosen ? { rangemode: "tozero" } : scoreAxis(given.valid.values) });
  };
}

function scores(given) {
  const methods = Object.entries(given).filter(([, of]) => Object.keys(of).length);
  $("scores_heading").textContent = `${LABEL} on the test splits`;
  if (!methods.length) { absent($("scores"), "No recording was scored."); return () => {}; }
  const names = [...new Set(methods.flatMap(([, of]) => Object.keys(of)))].sort();
  const short = names.map((name) => name.split("/").pop());
  const few = names.length <= 30;
  return () => draw("scores_plot", methods.map(([method, of], place) => few
    ? { type: "bar", orientation: "h", name: method, y: short, x: names.map((name) => of[name] ?? null), marker: { color: palette(place) },
      text: names.map((name) => (name in of ? text(of[name]) : "")), textposition: "auto", textangle: 0, hovertemplate: `%{y}, ${method}: %{x:.3f}<extra></extra>` }
    : { type: "box", boxpoints: "all", jitter: 0.6, pointpos: 0, name: method, x: Object.values(of), text: Object.keys(of), hovertemplate: "%{text}: %{x:.3f}<extra></extra>", marker: { color: palette(place), size: 4 } }),
  { height: few ? 110 + names.length * (12 + 14 * methods.length) : 120 + 90 * methods.length, bargap: 0.3,
    xaxis: { title: { text: LABEL }, rangemode: "tozero" }, yaxis: { autorange: "reversed", automargin: true } });
}

function outputs(given) {
  fill($("output"), Object.keys(given));
  const redraw = () => {
    const it = given[$("output").value];
    const others = Object.entries(it.others).map(([name, value]) => `, ${name} ${text(value)}`).join("");
    const coverage = Object.entries(it.claims?.coverage ?? {}).map(([level, share]) => `${level}: ${(100 * share).toFixed(1)} %`);
    const inside = coverage.length ? ` Samples inside the intervals of ${coverage.join(", ")}.` : "";
    $("output_note").textContent = `${it.label} ${text(it.mean)} ± ${text(it.std)}${others}; ${it.sessions} ${it.sessions === 1 ? "session" : "sessions"}.${inside}`;
    for (const [id, shown] of [["output_trace", it.excerpt], ["output_classes", it.confusion], ["output_claims", it.claims]]) $(id).hidden = !shown;
    if (it.excerpt) drawExcerpt(it.excerpt);
    if (it.confusion) draw("output_classes", [{ type: "heatmap", x: it.confusion.classes, y: it.confusion.classes, z: it.confusion.shares,
      zmin: 0, zmax: 1, colorscale: [[0, "rgba(90, 140, 200, 0.08)"], [1, colour("accent")]], showscale: false,
      hovertemplate: "measured %{y}, decoded %{x}: %{z:.2f}<extra></extra>" }],
    { height: 380, title: title("Shares of the samples of a measured class"), margin: { l: 80, r: 12, t: 34, b: 70 },
      xaxis: { title: { text: "decoded" }, type: "category" }, yaxis: { title: { text: "measured" }, type: "category", autorange: "reversed" } });
    if (it.claims) draw("output_claims", [line("as claimed", [0, 1], [0, 1], colour("soft")),
      line("observed", numbers(it.claims.claimed), numbers(it.claims.observed), colour("accent"), { mode: "lines+markers" })],
    { height: 380, margin: { l: 60, r: 12, t: 64, b: 42 }, title: title(`Expected calibration error ${text(it.claims.error)}`),
      xaxis: { title: { text: "share claimed" }, range: [0, 1] }, yaxis: { title: { text: "share observed" }, range: [0, 1] } });
  };
  $("output").onchange = redraw;
  return redraw;
}

function drawExcerpt(it) {
  const [times, values, targets] = [it.times, it.values, it.targets].map(numbers);
  const shape = it.classes.length ? "hv" : "linear";
  const band = !it.low ? [] : [
    line("", times, numbers(it.low), "rgba(0,0,0,0)", { showlegend: false, hoverinfo: "skip" }),
    line("80 % interval", times, numbers(it.high), "rgba(0,0,0,0)", { fill: "tonexty", fillcolor: "rgba(90, 140, 200, 0.25)", hoverinfo: "skip" })];
  const names = it.classes.length ? { tickvals: it.classes.map((_, i) => i), ticktext: it.classes, automargin: true } : {};
  draw("output_trace", [...band, line("measured", times, targets, colour("ink"), { line: { color: colour("ink"), width: 1.4, shape } }),
    line("decoded", times, values, colour("accent"), { line: { color: colour("accent"), width: 1.8, shape } })],
  { margin: { l: 60, r: 12, t: 64, b: 42 }, title: title(`${it.session}${it.channels > 1 ? `, first of ${it.channels} channels` : ""}`),
    xaxis: { title: { text: `s from ${it.start.toFixed(1)} s` } }, yaxis: { title: { text: it.quantity }, ...names } });
}

function goodput(given) {
  return () => draw("time", Object.entries(given.seconds).map(([name, seconds], place) => (
    { type: "bar", orientation: "h", name, x: [seconds], y: [""], marker: { color: palette(place) },
      hovertemplate: `${name}: %{x:.1f} s<extra></extra>` })),
  { barmode: "stack", height: 170, title: title(`${Math.round(100 * given.share)} % of all seconds went into steps that count`),
    xaxis: { ticksuffix: " s" }, yaxis: {}, legend: { orientation: "h", y: -0.4, yanchor: "top", traceorder: "normal" }, margin: { l: 12, r: 12, t: 34, b: 42 } });
}

// --- one recording

let current = null; // the recording that is shown, unpacked

function recordings(given) {
  fill($("session"), Object.keys(given));
  const left = content.left_out ? ` Left out, between the best and the worst of these: ${content.left_out}.` : "";
  const choose = () => {
    current = unpack(given[$("session").value]);
    const length = current.absent ? 0 : current.times[current.times.length - 1];
    $("from").max = Math.max(0, length - Number($("span").value));
    $("from").value = 0;
    const steps = current.attention?.latent_times?.length ?? 1;
    $("latent").max = steps - 1;
    $("latent").value = steps >> 1;
    show();
    draw_errors();
    draw_attention();
  };
  const show = () => draw_recording(left);
  $("session").onchange = choose;
  $("span").onchange = () => {
    $("from").max = Math.max(0, current.times[current.times.length - 1] - Number($("span").value));
    show();
  };
  $("from").oninput = show;
  $("latent").oninput = draw_attention;
  let first = true;
  return () => { if (first) choose(); else { show(); draw_errors(); draw_attention(); } first = false; };
}

function unpack(given) {
  if (given.absent) return given;
  const many = (list) => list && list.map(numbers);
  return { ...given, times: numbers(given.times), values: many(given.values), targets: many(given.targets),
    position: many(given.position), spike_times: Float32Array.from(numbers(given.spike_times), (time) => time / 1000), spike_units: numbers(given.spike_units) };
}

function draw_recording(left) {
  const it = current;
  if (it.absent) { $("recordings_note").textContent = it.absent; Plotly.purge("traces"); Plotly.purge("path"); return; }
  const from = Number($("from").value), to = Math.min(from + Number($("span").value), from + it.times.at(-1));
  $("from_text").textContent = `${sessionTime(it, from).toFixed(1)} s`;
  const blocks = it.blocks.length > 1 ? ` Dotted lines: time between two of its ${it.blocks.length} blocks is left out.` : "";
  $("recordings_note").textContent = `${LABEL} ${text(it.score)} on the whole test split; its beginning is shown.${blocks}${left}`;
  const rows = it.values.length + 1, layout = { height: 220 + 150 * it.values.length, xaxis: { range: [from, to], ...timeTicks(it, from, to), title: { text: "s of the session" }, anchor: `y${rows}` }, shapes: borders(it) };
  const top = 0.42, each = (1 - top) / it.values.length;
  layout.yaxis = { domain: [1 - top + 0.03, 1], title: { text: "unit" }, range: [-1, it.unit_ids.length], ...unitTicks(it) };
  const at = Array.from(it.times, (time) => sessionTime(it, time).toFixed(2));
  const traces = [raster(it, from, to)];
  it.values.forEach((values, channel) => {
    const axis = `y${channel + 2}`;
    layout[`yaxis${channel + 2}`] = { domain: [1 - top - each * (channel + 1), 1 - top - each * channel - 0.04], title: { text: named("xyz"[channel] ?? String(channel), it.unit) } };
    const broken = gaps(it.times, it.interval, it.blocks);
    const hover = (name) => ({ yaxis: axis, showlegend: !channel, text: at, hovertemplate: `${name} ${digits(it.unit)} at %{text} s<extra></extra>` });
    traces.push(line("measured", it.times, broken(it.targets[channel]), colour("ink"), hover("measured")));
    traces.push(line("decoded", it.times, broken(values), colour("accent"), hover("decoded")));
  });
  draw("traces", traces, { ...layout, title: title(it.key), margin: { l: 60, r: 12, t: 64, b: 42 } });
  draw_path(it, from, to, layout.height);
}

/** The spikes between two times as one line with gaps: drawing thousands of markers takes a browser seconds. */
function raster(it, from, to) {
  const [x, y] = [[], []];
  it.spike_times.forEach((time, place) => {
    if (time < from || time >= to) return;
    x.push(time, time, null);
    y.push(it.spike_units[place] - 0.4, it.spike_units[place] + 0.4, null);
  });
  return line("spikes", x, y, colour("ink"), { line: { color: colour("ink"), width: 1 }, hoverinfo: "skip", showlegend: false });
}

// Decoded time has no pauses: it.blocks holds [start in decoded time, start in the session, length].
const blockAt = (it, time) => it.blocks.findLast(([start]) => start <= time + 1e-6) ?? it.blocks[0];

function sessionTime(it, time) {
  const [start, inSession] = blockAt(it, time);
  return inSession + time - start;
}

/** Ticks at whole multiples of a step of session time, as far apart as their texts need. */
function timeTicks(it, from, to) {
  const step = [0.5, 1, 2, 5, 10, 20].find((value) => (to - from) / value <= 8) ?? 50, ticks = [];
  for (const [start, inSession, length] of it.blocks)
    for (let time = Math.ceil(inSession / step - 1e-6) * step; time < inSession + length; time += step) {
      const place = start + time - inSession;
      if (place >= from - 1e-6 && place <= to && !(place - ticks.at(-1)?.[0] < step / 2)) ticks.push([place, String(Number(time.toFixed(1)))]);
    }
  return { tickvals: ticks.map(([place]) => place), ticktext: ticks.map(([, words]) => words) };
}

/** About eight units by their names. */
function unitTicks({ unit_labels: names }) {
  const every = Math.ceil(names.length / 8), shown = names.map((_, place) => place).filter((place) => place % every === 0);
  return { tickvals: shown, ticktext: shown.map((place) => names[place]) };
}

/** Lines between blocks. */
const borders = (it) => it.blocks.slice(1).map(([start]) => (
  { type: "line", x0: start, x1: start, yref: "paper", y0: 0, y1: 1, line: { color: colour("soft"), width: 1, dash: "dot" } }));

/** Values without the first one behind a gap of the times, or of a block, so that lines end there. */
function gaps(times, interval, blocks = []) {
  const starts = blocks.map(([start]) => start);
  return (values) => Array.from(values, (value, place) => {
    const first = starts.some((start) => times[place] >= start - 1e-4 && times[place - 1] < start - 1e-4);
    return place && (first || times[place] - times[place - 1] > 1.6 * interval) ? null : value;
  });
}

function draw_path(it, from, to, height) {
  if (it.values.length !== 2) { Plotly.purge("path"); $("path").textContent = "A trajectory needs a behaviour of two channels."; return; }
  const within = [...it.times.keys()].filter((place) => it.times[place] >= from && it.times[place] < to);
  const times = within.map((place) => it.times[place]), broken = gaps(times, it.interval, it.blocks);
  // The sum begins anew in every block, where the position is measured.
  const summed = (columns) => columns.map((column, channel) => {
    let sum = 0, block = null;
    return broken(within.map((place) => {
      const here = blockAt(it, it.times[place]);
      if (here !== block) [block, sum] = [here, it.position ? it.position[channel][place] : sum];
      return (sum += (Number.isFinite(column[place]) ? column[place] : 0) * it.interval);
    }));
  });
  const unit = it.unit.endsWith("/s") ? it.unit.slice(0, -2) : "";
  const hover = (name) => ({ hovertemplate: `${name} %{x:.3~g}, ${digits(unit)}<extra></extra>` });
  const measured = it.position ? it.position.map((column) => broken(within.map((place) => column[place]))) : summed(it.targets);
  const decoded = summed(it.values);
  const words = it.position ? "Position, and decoded velocity added up" : "Velocities added up (no position here)";
  draw("path", [line("measured", measured[0], measured[1], colour("ink"), hover("measured")), line("decoded", decoded[0], decoded[1], colour("accent"), hover("decoded"))],
    { height: Math.min(height, 460), title: title(words), yaxis: { scaleanchor: "x", title: { text: named("y", unit) } }, xaxis: { title: { text: named("x", unit) } }, showlegend: false });
}

function draw_errors() {
  const given = current.errors, section = $("errors");
  section.querySelectorAll(".absent").forEach((old) => old.remove());
  for (const child of section.children) child.hidden = false;
  if (!given || given.absent) return absent(section, given ? given.absent : current.absent);
  const unit = given.unit, size = current.key.endsWith(".vel") ? "speed" : "magnitude";
  const tip = `error ${digits(unit)} at ${size} %{x:.3~g}${unit && ` ${unit}`}<extra></extra>`;
  draw("by_speed", [line("error", given.speed, given.by_speed, colour("accent"), { mode: "lines+markers", hovertemplate: tip })],
    { title: title(`Error over ${size}`), xaxis: { title: { text: named(`measured ${size}`, unit) } }, yaxis: { rangemode: "tozero", title: { text: named("error", unit) } }, showlegend: false });
  const count = given.by_direction.length, degrees = given.by_direction.map((_, place) => (360 / count) * place);
  // Numbers at the rings would lie on the bars: the title says how far apart rings are.
  const polar = { gridcolor: colour("line"), linecolor: colour("line") };
  const ring = ringStep(Math.max(...given.by_direction.map((value) => value ?? 0)));
  draw("by_direction", [{ type: "barpolar", theta: degrees, r: given.by_direction, width: degrees.map(() => 0.9 * 360 / count), marker: { color: colour("accent") }, name: "error",
    hovertemplate: `error %{r:.3~g}${unit && ` ${unit}`} at %{theta}<extra></extra>` }],
    { title: title(`Error over direction; rings are ${measured(ring, unit)} apart`), margin: { l: 40, r: 40, t: 72, b: 32 },
      polar: { bgcolor: "rgba(0,0,0,0)", radialaxis: { ...polar, dtick: ring, showticklabels: false, ticks: "", showline: false }, angularaxis: { ...polar, dtick: 45 } }, showlegend: false });
}

/** The largest of 1, 2 and 5 times a power of ten that gives two rings at least. */
function ringStep(largest) {
  const power = 10 ** Math.floor(Math.log10(largest / 2 || 1));
  return [5, 2, 1].map((factor) => factor * power).find((step) => step <= largest / 2) ?? power;
}

function draw_attention() {
  const given = current.attention, section = $("attention");
  section.querySelectorAll(".absent").forEach((old) => old.remove());
  for (const child of section.children) child.hidden = false;
  if (!given || given.absent) return absent(section, given ? given.absent : current.absent);
  const step = Number($("latent").value), [times, units, all] = [given.spike_times, given.spike_units, given.weights].map(numbers);
  const weights = Array.from(all.subarray(step * times.length, (step + 1) * times.length), (value) => value / 255);
  $("latent_text").textContent = `${given.latent_times[step].toFixed(3)} s`;
  draw("attended", [{ type: "scatter", mode: "markers", x: times, y: units, showlegend: false,
    text: Array.from(units, (unit) => given.unit_ids[unit]), hovertemplate: "%{text}, %{x:.3f} s: weight %{marker.color:.2f}<extra></extra>",
    marker: { size: weights.map((weight) => 3 + 15 * Math.sqrt(weight)), color: weights, cmin: 0, cmax: 1, opacity: 0.75, line: { width: 0 },
      colorscale: [[0, colour("line")], [0.5, colour("accent")], [1, colour("other")]], colorbar: { title: { text: "weight", side: "right" }, thickness: 12, outlinewidth: 0 } } }],
  { title: title(`Spikes get ${Math.round(100 * given.shares[step])} % of these latents' weights`), shapes: [{ type: "line", x0: given.latent_times[step], x1: given.latent_times[step], yref: "paper", y0: 0, y1: 1, line: { color: colour("other"), dash: "dot" } }],
    xaxis: { title: { text: `s from ${given.start.toFixed(1)} s` }, range: [0, given.length] }, yaxis: { title: { text: "unit" }, ...unitTicks(given) } });
}

// --- embeddings

function groups(points, keys, names, order = []) {
  const found = [...new Set([...order, ...keys])], few = found.length <= MAX_LEGEND;
  return found.map((key, place) => {
    const chosen = [...keys.keys()].filter((index) => keys[index] === key);
    return { type: "scatter", mode: "markers", name: String(key).split("/").pop(), showlegend: few && found.length > 1, x: chosen.map((i) => points[0][i]), y: chosen.map((i) => points[1][i]),
      text: chosen.map((i) => names[i]), hovertemplate: "%{text}<extra></extra>", marker: { size: 6, opacity: 0.75, color: palette(place) } };
  });
}

// The axes of a plane: principal components, and their shares of the variance.
const component = (given, place) => ({ title: { text: `PC ${place + 1} (${Math.round(100 * given.shares[place])} % of the variance)` } });
const plane = (given) => ({ xaxis: component(given, 0), yaxis: component(given, 1) });

function embeddings(given) {
  const units = { ...given.units, points: given.units.points.map(numbers), rates: numbers(given.units.rates) };
  const useful = Object.entries(units.colours).filter(([name, keys]) => name === "session" || keys.some((key) => key !== keys[0]));
  fill($("colour"), useful.map(([name]) => name));
  if (units.rates.some(Number.isFinite)) fill($("colour"), ["rate"]);
  const redraw = () => {
    const by = $("colour").value, sessions = given.sessions?.names ?? [];
    const layout = { height: 460, legend: { orientation: "h", y: -0.22, yanchor: "top" } };
    const traces = by !== "rate" ? groups(units.points, units.colours[by], units.names, by === "session" ? sessions : [])
      : [{ type: "scatter", mode: "markers", x: units.points[0], y: units.points[1], text: units.names, hovertemplate: "%{text}: %{marker.color:.1f} Hz<extra></extra>",
        marker: { size: 6, color: Array.from(units.rates, (rate) => (Number.isFinite(rate) ? rate : null)), colorscale: RATES[scheme()], colorbar: { title: { text: "mean rate (Hz)", side: "right" }, thickness: 12 } } }];
    draw("unit_plane", traces, { ...layout, ...plane(units), title: title("Units, by PCA of their embeddings") });
    if (!sessions.length) { $("session_plane").textContent = "The model knows fewer than three sessions."; return; }
    draw("session_plane", groups(given.sessions.points.map(numbers), sessions, sessions).map((trace) => ({ ...trace, marker: { ...trace.marker, size: 10 } })),
      { ...layout, ...plane(given.sessions), title: title("Sessions, by PCA of their embeddings") });
  };
  $("colour").onchange = redraw;
  return redraw;
}

// --- unit identification

function fits(given) {
  fill($("fit_session"), Object.keys(given));
  const show = () => {
    const it = given[$("fit_session").value];
    if (it.absent) { $("fit_text").textContent = it.absent; for (const id of ["fit_units", "fit_scores", "fit_traces"]) Plotly.purge(id); return; }
    $("fit_step").max = it.steps.length - 1;
    const look = Number($("fit_step").value), step = it.steps[look];
    $("fit_text").textContent = `step ${step}, test ${LABEL} ${text(it.test[look])}`;
    const dots = (name, points, shade, size, opacity) => ({ type: "scatter", mode: "markers", name, x: numbers(points[0]), y: numbers(points[1]), hoverinfo: "skip", marker: { color: shade, size, opacity } });
    const ends = it.points.flat().concat(it.background).reduce((most, packed) => Math.max(most, ...numbers(packed).map(Math.abs)), 0) * 1.05;
    draw("fit_units", [dots("units known before", it.background, colour("soft"), 5, 0.35), dots("new units", it.points[look], colour("other"), 8, 0.85)],
      { height: 360, title: title("Unit embeddings, by PCA"), margin: { l: 52, r: 12, t: 64, b: 42 }, xaxis: { range: [-ends, ends], title: { text: "PC 1" } }, yaxis: { range: [-ends, ends], title: { text: "PC 2" } } });
    draw("fit_scores", [line(`test ${LABEL}`, it.steps, it.test, colour("accent")), line(`validation ${LABEL}`, it.steps, it.valid, colour("soft")),
      { type: "scatter", mode: "markers", x: [step], y: [it.test[look]], showlegend: false, hoverinfo: "skip", marker: { size: 12, color: colour("other") } }],
    { height: 360, title: title(`${LABEL} over the steps`), margin: { l: 52, r: 12, t: 64, b: 42 }, xaxis: { title: { text: "step" } }, yaxis: scoreAxis(it.test.concat(it.valid)) });
    const times = numbers(it.times), layout = { height: 150 + 130 * it.targets.length, xaxis: { title: { text: `s from ${it.start.toFixed(1)} s` }, anchor: `y${it.targets.length > 1 ? it.targets.length : ""}` } };
    const interval = times.length > 1 ? times.slice(1).map((time, place) => time - times[place]).sort()[times.length >> 1] : 1, traces = [];
    it.targets.forEach((target, channel) => {
      const number = channel ? String(channel + 1) : "", each = 1 / it.targets.length, broken = gaps(times, interval);
      layout[`yaxis${number}`] = { domain: [1 - each * (channel + 1) + 0.03, 1 - each * channel], title: { text: named("xyz"[channel] ?? String(channel), it.unit) } };
      const hover = { hovertemplate: `${digits(it.unit)}<extra></extra>` };
      traces.push(line("measured", times, broken(numbers(target)), colour("ink"), { ...hover, yaxis: `y${number}`, showlegend: !channel }));
      traces.push(line("decoded", times, broken(numbers(it.values[look][channel])), colour("other"), { ...hover, yaxis: `y${number}`, showlegend: !channel }));
    });
    draw("fit_traces", traces, { ...layout, margin: { l: 52, r: 12, t: 64, b: 42 }, title: title("Behaviour") });
  };
  $("fit_session").onchange = () => { $("fit_step").value = 0; show(); };
  $("fit_step").oninput = show;
  $("fit_step").value = 0;
  return show;
}

// --- what was chosen, kept in the address

function remember(ids) {
  const saved = new URLSearchParams(location.hash.slice(1));
  for (const id of ids.filter((name) => saved.has(name) && $(name).onchange !== undefined)) {
    $(id).value = saved.get(id);
    if ($(id).selectedIndex === -1) $(id).selectedIndex = 0;
    ($(id).oninput ?? $(id).onchange)?.();
  }
  document.addEventListener("input", () => {
    const values = ids.filter((id) => $(id).value !== "").map((id) => [id, $(id).value]);
    history.replaceState(null, "", `#${new URLSearchParams(values)}`);
  });
}

highlights();
part("recordings", recordings);
if (content.recordings.absent) for (const id of ["errors", "attention"]) absent($(id), content.recordings.absent);
if (content.outputs) part("outputs", outputs);
else $("outputs").hidden = true;
part("fits", fits);
part("scores", scores);
part("embeddings", embeddings);
part("training", training);
part("goodput", goodput);
part("sessions", table);
remember(["session", "span", "from", "latent", "fit_session", "fit_step", "colour"]);
dark.addEventListener("change", () => redraws.forEach((redraw) => redraw()));

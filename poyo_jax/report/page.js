"use strict";
// Draws the numbers in #content. Every part has a function that draws all of it; changed controls draw it again.
const content = JSON.parse(document.getElementById("content").textContent);
const ARRAYS = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array };
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const MAX_LEGEND = 12;
const $ = (id) => document.getElementById(id);
const redraws = [];

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
    font: { color: colour("ink"), size: 12, family: "system-ui, sans-serif" }, colorway: PALETTE, hovermode: "closest",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, ...layout,
  };
  for (const name of Object.keys(whole).filter((name) => /^[xy]axis\d*$/.test(name))) whole[name] = { ...axis, ...whole[name] };
  Plotly.react(id, traces, whole, { responsive: true, displaylogo: false, displayModeBar: "hover", scrollZoom: false });
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
      line(name, curve.steps, curve.values, colour("soft"), { opacity: 0.45, line: { color: colour("soft"), width: 1 }, showlegend: false }));
    const mean = line("mean", given.valid.steps, given.valid.values, colour("accent"), { line: { color: colour("accent"), width: 3 }, showlegend: false });
    const lowest = Math.max(-0.2, Math.min(0, ...given.valid.values.filter((value) => value !== null)));
    draw("valid", [...single, mean],
      { title: title("Validation R²: sessions, and their mean"), xaxis: { title: { text: "step" } }, yaxis: { range: [lowest, 1] } });
  };
}

function scores(given) {
  const methods = Object.entries(given).filter(([, of]) => Object.keys(of).length);
  if (!methods.length) { absent($("r2"), "No recording was scored."); return () => {}; }
  const names = [...new Set(methods.flatMap(([, of]) => Object.keys(of)))].sort();
  const short = names.map((name) => name.split("/").pop());
  const few = names.length <= 30;
  return () => draw("r2_plot", methods.map(([method, of], place) => few
    ? { type: "bar", orientation: "h", name: method, y: short, x: names.map((name) => of[name] ?? null), marker: { color: PALETTE[place] } }
    : { type: "box", boxpoints: "all", jitter: 0.6, pointpos: 0, name: method, x: Object.values(of), text: Object.keys(of), marker: { color: PALETTE[place], size: 4 } }),
  { height: few ? 110 + names.length * (12 + 14 * methods.length) : 120 + 90 * methods.length, bargap: 0.3,
    xaxis: { title: { text: "R²" }, rangemode: "tozero" }, yaxis: { autorange: "reversed", automargin: true } });
}

function goodput(given) {
  return () => draw("time", Object.entries(given.seconds).map(([name, seconds], place) => (
    { type: "bar", orientation: "h", name, x: [seconds], y: [""], marker: { color: PALETTE[place % PALETTE.length] },
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
  const from = Number($("from").value), to = from + Number($("span").value);
  $("from_text").textContent = `${(it.start + from).toFixed(1)} s`;
  $("recordings_note").textContent = `R² ${text(it.r2)} on the whole test split; its beginning is shown.${left}`;
  const rows = it.values.length + 1, layout = { height: 220 + 150 * it.values.length, xaxis: { range: [from, to], title: { text: `s from ${it.start.toFixed(1)} s` }, anchor: `y${rows}` } };
  const top = 0.42, each = (1 - top) / it.values.length;
  layout.yaxis = { domain: [1 - top + 0.03, 1], title: { text: "unit" }, range: [-1, it.num_units] };
  const traces = [raster(it, from, to)];
  it.values.forEach((values, channel) => {
    const axis = `y${channel + 2}`;
    layout[`yaxis${channel + 2}`] = { domain: [1 - top - each * (channel + 1), 1 - top - each * channel - 0.04], title: { text: `${it.key} ${"xyz"[channel] ?? channel}` } };
    const broken = gaps(it.times, it.interval);
    traces.push(line("measured", it.times, broken(it.targets[channel]), colour("ink"), { yaxis: axis, showlegend: !channel }));
    traces.push(line("decoded", it.times, broken(values), colour("accent"), { yaxis: axis, showlegend: !channel }));
  });
  draw("traces", traces, layout);
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

/** Values without the first one behind a gap of the times, so that lines end there. */
function gaps(times, interval) {
  return (values) => Array.from(values, (value, place) => (place && times[place] - times[place - 1] > 1.6 * interval ? null : value));
}

function draw_path(it, from, to, height) {
  if (it.values.length !== 2) { Plotly.purge("path"); $("path").textContent = "A trajectory needs a behaviour of two channels."; return; }
  const within = [...it.times.keys()].filter((place) => it.times[place] >= from && it.times[place] < to);
  const begin = it.position ? it.position.map((column) => column[within[0]]) : [0, 0];
  const times = within.map((place) => it.times[place]), broken = gaps(times, it.interval);
  const summed = (columns) => columns.map((column, channel) => {
    let sum = begin[channel];
    return broken(within.map((place) => (sum += (Number.isFinite(column[place]) ? column[place] : 0) * it.interval)));
  });
  const measured = it.position ? it.position.map((column) => broken(within.map((place) => column[place]))) : summed(it.targets);
  const decoded = summed(it.values);
  const words = it.position ? "Position, and decoded velocity added up" : "Velocities added up (no position here)";
  draw("path", [line("measured", measured[0], measured[1], colour("ink")), line("decoded", decoded[0], decoded[1], colour("accent"))],
    { height: Math.min(height, 460), title: title(words), yaxis: { scaleanchor: "x" }, xaxis: {}, showlegend: false });
}

function draw_errors() {
  const given = current.errors, section = $("errors");
  section.querySelectorAll(".absent").forEach((old) => old.remove());
  for (const child of section.children) child.hidden = false;
  if (!given || given.absent) return absent(section, given ? given.absent : current.absent);
  draw("by_speed", [line("error", given.speed, given.by_speed, colour("accent"), { mode: "lines+markers" })],
    { title: title("Error over speed"), xaxis: { title: { text: "measured speed" } }, yaxis: { rangemode: "tozero" }, showlegend: false });
  const count = given.by_direction.length, degrees = given.by_direction.map((_, place) => (360 / count) * place);
  const polar = { gridcolor: colour("line"), linecolor: colour("line") };
  draw("by_direction", [{ type: "barpolar", theta: degrees, r: given.by_direction, width: degrees.map(() => 0.9 * 360 / count), marker: { color: colour("accent") }, name: "error" }],
    { title: title("Error over direction"), polar: { bgcolor: "rgba(0,0,0,0)", radialaxis: polar, angularaxis: polar }, showlegend: false });
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
    hovertemplate: "unit %{y}, %{x:.3f} s<extra></extra>",
    marker: { size: weights.map((weight) => 3 + 15 * Math.sqrt(weight)), color: weights, cmin: 0, cmax: 1, opacity: 0.75, line: { width: 0 },
      colorscale: [[0, colour("line")], [0.5, colour("accent")], [1, colour("other")]], colorbar: { title: { text: "weight" }, thickness: 12, outlinewidth: 0 } } }],
  { title: title(`Spikes get ${Math.round(100 * given.shares[step])} % of these latents' weights`), shapes: [{ type: "line", x0: given.latent_times[step], x1: given.latent_times[step], yref: "paper", y0: 0, y1: 1, line: { color: colour("other"), dash: "dot" } }],
    xaxis: { title: { text: `s from ${given.start.toFixed(1)} s` }, range: [0, given.length] }, yaxis: { title: { text: "unit" } } });
}

// --- embeddings

function groups(points, keys, names, order = []) {
  const found = [...new Set([...order, ...keys])], few = found.length <= MAX_LEGEND;
  return found.map((key, place) => {
    const chosen = [...keys.keys()].filter((index) => keys[index] === key);
    return { type: "scatter", mode: "markers", name: String(key).split("/").pop(), showlegend: few && found.length > 1, x: chosen.map((i) => points[0][i]), y: chosen.map((i) => points[1][i]),
      text: chosen.map((i) => names[i]), hovertemplate: "%{text}<extra></extra>", marker: { size: 6, opacity: 0.75, color: PALETTE[place % PALETTE.length] } };
  });
}

const shares = (given) => given.shares.map((share) => `${Math.round(100 * share)} %`).join(" and ");

function embeddings(given) {
  const units = { ...given.units, points: given.units.points.map(numbers), rates: numbers(given.units.rates) };
  const useful = Object.entries(units.colours).filter(([name, keys]) => name === "session" || keys.some((key) => key !== keys[0]));
  fill($("colour"), useful.map(([name]) => name));
  if (units.rates.some(Number.isFinite)) fill($("colour"), ["rate"]);
  const redraw = () => {
    const by = $("colour").value, sessions = given.sessions?.names ?? [];
    const layout = { height: 440, xaxis: {}, yaxis: {}, legend: { orientation: "h", y: -0.1, yanchor: "top" } };
    const traces = by !== "rate" ? groups(units.points, units.colours[by], units.names, by === "session" ? sessions : [])
      : [{ type: "scatter", mode: "markers", x: units.points[0], y: units.points[1], text: units.names, hovertemplate: "%{text}: %{marker.color:.1f} Hz<extra></extra>",
        marker: { size: 6, color: Array.from(units.rates, (rate) => (Number.isFinite(rate) ? rate : null)), colorscale: "Viridis", colorbar: { title: { text: "Hz" }, thickness: 12 } } }];
    draw("unit_plane", traces, { ...layout, title: title(`Units (${shares(units)} of the variance)`) });
    if (!sessions.length) { $("session_plane").textContent = "The model knows fewer than three sessions."; return; }
    draw("session_plane", groups(given.sessions.points.map(numbers), sessions, sessions).map((trace) => ({ ...trace, marker: { ...trace.marker, size: 10 } })),
      { ...layout, title: title(`Sessions (${shares(given.sessions)} of the variance)`) });
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
    $("fit_text").textContent = `step ${step}, test R² ${text(it.test_r2[look])}`;
    const dots = (name, points, shade, size, opacity) => ({ type: "scatter", mode: "markers", name, x: numbers(points[0]), y: numbers(points[1]), hoverinfo: "skip", marker: { color: shade, size, opacity } });
    const ends = it.points.flat().concat(it.background).reduce((most, packed) => Math.max(most, ...numbers(packed).map(Math.abs)), 0) * 1.05;
    draw("fit_units", [dots("units known before", it.background, colour("soft"), 5, 0.35), dots("new units", it.points[look], colour("other"), 8, 0.85)],
      { height: 360, title: title("Unit embeddings"), margin: { l: 40, r: 12, t: 64, b: 30 }, xaxis: { range: [-ends, ends] }, yaxis: { range: [-ends, ends] } });
    const values = it.test_r2.concat(it.valid).filter((value) => value !== null), low = Math.max(-0.5, Math.min(0, ...values));
    draw("fit_scores", [line("test R²", it.steps, it.test_r2, colour("accent")), line("validation R²", it.steps, it.valid, colour("soft")),
      { type: "scatter", mode: "markers", x: [step], y: [it.test_r2[look]], showlegend: false, marker: { size: 12, color: colour("other") } }],
    { height: 360, title: title("R² over the steps"), margin: { l: 40, r: 12, t: 64, b: 42 }, xaxis: { title: { text: "step" } }, yaxis: { range: [low, 1] } });
    const times = numbers(it.times), layout = { height: 150 + 130 * it.targets.length, xaxis: { title: { text: `s from ${it.start.toFixed(1)} s` }, anchor: `y${it.targets.length > 1 ? it.targets.length : ""}` } };
    const interval = times.length > 1 ? times.slice(1).map((time, place) => time - times[place]).sort()[times.length >> 1] : 1, traces = [];
    it.targets.forEach((target, channel) => {
      const number = channel ? String(channel + 1) : "", each = 1 / it.targets.length, broken = gaps(times, interval);
      layout[`yaxis${number}`] = { domain: [1 - each * (channel + 1) + 0.03, 1 - each * channel], title: { text: "xyz"[channel] ?? String(channel) } };
      traces.push(line("measured", times, broken(numbers(target)), colour("ink"), { yaxis: `y${number}`, showlegend: !channel }));
      traces.push(line("decoded", times, broken(numbers(it.values[look][channel])), colour("other"), { yaxis: `y${number}`, showlegend: !channel }));
    });
    draw("fit_traces", traces, { ...layout, margin: { l: 52, r: 12, t: 64, b: 42 }, title: title("Behaviour") });
  };
  $("fit_session").onchange = () => { $("fit_step").value = 0; show(); };
  $("fit_step").oninput = show;
  $("fit_step").value = 0;
  return show;
}

highlights();
part("recordings", recordings);
if (content.recordings.absent) for (const id of ["errors", "attention"]) absent($(id), content.recordings.absent);
part("fits", fits);
part("r2", scores);
part("embeddings", embeddings);
part("training", training);
part("goodput", goodput);
part("sessions", table);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));

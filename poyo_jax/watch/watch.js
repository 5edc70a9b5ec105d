// Asks the program for what is new ten times a second, and draws the last seconds.

const $ = (id) => document.getElementById(id);
const EVERY = 100, LEFT = 52, BOTTOM = 18, TOP = 4, RIGHT = 8; // ms; pixels beside a plot
const KINDS = ["first", "second", "more"];
const WORDS = { received: "received", not_finite: "without a finite time", unknown: "of unknown units",
  stale: "too old for any window", late: "late for their first window", overflow: "lost by a full buffer" };
let about = null, updates = [], last = null;

const number = (value) => Number(value).toLocaleString("en");
const short = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
const ms = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`);
const channelName = (channel, count) => (count === 2 ? "xy"[channel] : `channel ${channel + 1}`);
const kind = (channel) => KINDS[Math.min(channel, KINDS.length - 1)];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const colours = () => ({ first: colour("accent"), second: colour("other"), more: colour("soft"),
  ink: colour("ink"), line: colour("line"), soft: colour("soft") });

// A canvas of the size in which it is shown, with what is drawn on it in CSS pixels.
function begin(id) {
  const canvas = $(id), width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height, right: width - RIGHT, bottom: height - BOTTOM };
}

function line(pen, points, style, width = 1.6) {
  pen.beginPath();
  let begun = false;
  for (const [x, y] of points) {
    if (y === null) { begun = false; continue; }
    begun ? pen.lineTo(x, y) : pen.moveTo(x, y);
    begun = true;
  }
  pen.strokeStyle = style;
  pen.lineWidth = width;
  pen.stroke();
}

function text(pen, words, x, y, style, align = "left") {
  pen.fillStyle = style;
  pen.textAlign = align;
  pen.fillText(words, x, y);
}

const end = () => updates.at(-1).now;
const start = () => end() - about.shown;
const xAt = (plot) => (time) => LEFT + ((time - start()) / about.shown) * (plot.right - LEFT);

function seconds(plot, paint) {
  for (let ago = about.shown; ago >= 0; ago -= 2) {
    const x = xAt(plot)(end() - ago);
    line(plot.pen, [[x, TOP], [x, plot.bottom]], paint.line, 1);
    text(plot.pen, ago ? `−${ago}` : "0 s", x, plot.height - 4, paint.soft, ago ? "center" : "right");
  }
}

function drawRaster(paint) {
  const plot = begin("raster"), x = xAt(plot), names = about.unit_labels;
  const row = (plot.bottom - TOP) / names.length, every = Math.ceil(14 / row);
  seconds(plot, paint);
  names.forEach((name, unit) => {
    if (unit % every === 0) text(plot.pen, name, LEFT - 6, TOP + (unit + 0.5) * row + 4, paint.soft, "right");
  });
  plot.pen.fillStyle = paint.ink;
  const tall = Math.max(1, row - (row > 3 ? 1 : 0));
  for (const update of updates) {
    update.times.forEach((time, place) => {
      const unit = update.units[place];
      if (time === null || time < start() || unit === null || unit < 0 || unit >= names.length) return;
      plot.pen.fillRect(x(time), TOP + unit * row, 1.2, tall);
    });
  }
}

function drawTrace(paint) {
  const plot = begin("trace"), x = xAt(plot);
  const channels = updates.at(-1).values[0].length, lag = about.queries[0];
  const shown = updates.flatMap((update) => update.values[0]).filter((value) => value !== null);
  const low = Math.min(...shown, 0), high = Math.max(...shown, 0), span = high - low || 1;
  const y = (value) => (value === null ? null : plot.bottom - 4 - ((value - low) / span) * (plot.bottom - TOP - 8));
  seconds(plot, paint);
  line(plot.pen, [[LEFT, y(0)], [plot.right, y(0)]], paint.line, 1);
  for (const value of [low, 0, high]) text(plot.pen, short(value), LEFT - 6, y(value) + 4, paint.soft, "right");
  for (let channel = 0; channel < channels; channel++)
    line(plot.pen, updates.map((update) => [x(update.now - lag), y(update.values[0][channel])]), paint[kind(channel)]);
  $("key").replaceChildren(...Array.from({ length: channels }, (_, channel) =>
    Object.assign(document.createElement("span"), { textContent: channelName(channel, channels), className: kind(channel) })));
}

function drawPath(paint) {
  const flat = updates.at(-1).values[0].length < 2;
  $("moved").hidden = flat;
  if (flat) return;
  const plot = begin("path"), points = [[0, 0]];
  updates.forEach(({ now, values: [[vx, vy]] }, place) => {
    const step = place ? Math.min(now - updates[place - 1].now, 1) : about.hop, [px, py] = points.at(-1);
    points.push([px + (vx ?? 0) * step, py + (vy ?? 0) * step]);
  });
  const bounds = [0, 1].map((axis) => points.map((point) => point[axis])).map((all) => [Math.min(...all), Math.max(...all)]);
  const [[left, right], [low, high]] = bounds, span = Math.max(right - left, high - low, 1e-9);
  const size = Math.min(plot.width, plot.height) - 24;
  const place = ([px, py]) => [plot.width / 2 + ((px - (left + right) / 2) / span) * size,
    plot.height / 2 - ((py - (low + high) / 2) / span) * size];
  line(plot.pen, points.map(place), paint.first, 2);
  const [x, y] = place(points.at(-1));
  plot.pen.beginPath();
  plot.pen.arc(x, y, 6, 0, 2 * Math.PI);
  plot.pen.fillStyle = paint.second;
  plot.pen.fill();
}

// The latency in ms below which this share of all updates lies, to the width of a bin.
function quantile(share) {
  const total = last.totals.updates;
  let seen = 0;
  for (const [bin, count] of last.latencies.entries()) {
    seen += count;
    if (seen >= share * total) return about.edges[bin] ?? last.totals.worst;
  }
  return null;
}

function drawHistogram(paint) {
  const plot = begin("histogram"), counts = last.latencies, most = Math.max(...counts);
  const used = counts.flatMap((count, bin) => (count ? [bin] : []));
  const first = Math.max(0, used[0] - 2), final = Math.min(counts.length - 1, used.at(-1) + 2);
  const wide = (plot.right - LEFT) / (final - first + 1), high = plot.bottom - TOP;
  // Square roots, so that the rare late ones can be seen beside the many.
  plot.pen.fillStyle = paint.first;
  for (let bin = first; bin <= final; bin++) {
    const tall = counts[bin] ? Math.max(2, high * Math.sqrt(counts[bin] / most)) : 0;
    plot.pen.fillRect(LEFT + (bin - first) * wide, plot.bottom - tall, Math.max(1, wide - 1), tall);
  }
  line(plot.pen, [[LEFT, plot.bottom], [plot.right, plot.bottom]], paint.line, 1);
  text(plot.pen, number(most), LEFT - 6, TOP + 10, paint.soft, "right");
  const room = Math.max(1, Math.ceil((final - first) / 4));
  for (let bin = first; bin <= final; bin += room) {
    const last = bin + room > final;
    const words = `${short(about.edges[Math.min(bin, about.edges.length - 1)])}${last ? " ms" : ""}`;
    text(plot.pen, words, LEFT + (bin - first + 1) * wide, plot.height - 4, paint.soft, last ? "right" : "center");
  }
}

function drawCounts() {
  const cell = (name, textContent) => Object.assign(document.createElement(name), { textContent });
  const row = (words, value, lost) => {
    const made = document.createElement("tr");
    made.append(cell("td", words), cell("td", number(value)));
    if (lost && value) made.className = "lost";
    return made;
  };
  const rows = Object.entries(WORDS).map(([name, words]) => row(words, last.counts[name], name !== "received"));
  rows.push(row("waiting for their window", last.totals.waiting, false));
  rows.push(row("updates left out, overdue", last.totals.missed, true));
  $("counts").replaceChildren(...rows);
}

function draw() {
  if (!updates.length) return;
  const paint = colours();
  drawRaster(paint);
  drawTrace(paint);
  drawPath(paint);
  drawHistogram(paint);
  drawCounts();
  $("now").textContent = `${end().toFixed(2)} s`;
  $("updates").textContent = number(last.totals.updates);
  $("median").textContent = ms(quantile(0.5));
  $("p99").textContent = ms(quantile(0.99));
  $("worst").textContent = ms(last.totals.worst);
  $("dropped").textContent = number(last.counts.dropped);
  $("dropped").className = last.counts.dropped ? "lost" : "";
}

async function ask(address) {
  const reply = await fetch(address), answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}

function say(words, ended = false) {
  $("status").textContent = words;
  $("status").className = ended ? "ended" : "";
}

async function look() {
  try {
    if (!about) {
      about = await ask("/about");
      $("name").textContent = about.name;
    }
    last = await ask(`/since?number=${updates.at(-1)?.number ?? 0}`);
    updates.push(...last.updates);
    updates = updates.filter((update) => update.now > end() - about.shown);
    say(last.ended || (updates.length ? "" : "No update yet: the program is waiting for spikes."), Boolean(last.ended));
    $("app").hidden = !updates.length;
    if (last.updates.length || last.ended) draw();
    if (last.ended) return;
  } catch (error) {
    say(`The program does not answer any more (${error.message}). Start it again.`, true);
    return;
  }
  setTimeout(look, EVERY);
}

addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
look();

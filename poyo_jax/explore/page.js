// What the page knows, what it asks the server, and what edits do to it.
const $ = (id) => document.getElementById(id);
const LEFT = 48, RIGHT = 10, PANEL = 118;
let model, session;             // what the server has, and the chosen one of its sessions
let view = null;                // the window that is shown, as the server describes it
let spikes = [], history = [];  // spikes: {time, unit, original, alive}; history: lists of those that an edit turned over
let grid = null;                // {offset, rate, number} of the query times; null: as measured
let base = null, now = null;    // predictions before edits and now: {times, values}
let wanted = null;               // start that was typed and stays in the box, s; null: the box shows the window's
let output = "";                // name of the output that is chosen; "": the first of the session
let kept = null;                 // what the address says about edits, until they are made
let cursor = { unit: 0, time: 0 };
let patience = new AbortController(); // ends when another window is chosen: compiling for this one may take long

// ---------------------------------------------------------------------------------------------------- the server
async function request(path, question, signal) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) };
  const reply = await fetch(path, { ...(question && post), signal }).catch(() => {
    const gone = "The explorer does not answer any more. Start it again, and open the address that it prints.";
    throw new Error(signal?.aborted ? "" : gone);
  });
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}

async function predict(asked, times) {
  const began = performance.now();
  const answer = await request("predict", {
    session: session.id, spike_times: asked.map((s) => s.time), spike_units: asked.map((s) => s.unit), query_times: times, output,
  }, patience.signal);
  $("took").textContent = `${Math.round(performance.now() - began)} ms`;
  return { times, values: answer.values };
}

// Runs once more after whatever changed meanwhile, however often it changed.
function latest(work) {
  let busy = false, again = false;
  return async () => {
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      again = false;
      await work().then(() => complain(""), (error) => complain(error.message));
    }
    busy = false;
  };
}

const update = latest(async () => {
  const start = Number($("slider").value);
  const same = view && view.session === session.id && view.start === start && (!output || view.output === output);
  if (!same) await open(session.id, start);
  remember();
  if (view.problem) return;
  base ??= await predict(spikes.filter((s) => s.original), view.query_times);
  now = edits().length || grid ? await predict(spikes.filter((s) => s.alive), queryTimes()) : base;
  drawAnswer();
});

async function open(id, start) {
  const answer = await request(`window?${query({ session: id, start, output })}`, undefined, patience.signal);
  const moved = view?.session !== id, changed = moved || view.output !== answer.output;
  view = { ...answer, session: id };
  output = view.output;
  $("several").hidden = view.outputs.length < 2;
  $("output").replaceChildren(...view.outputs.map((name) => new Option(name, name)));
  $("output").value = output;
  spikes = view.spike_times.map((time, i) => ({ time, unit: view.spike_units[i], original: true, alive: true }));
  [history, base, now] = [[], null, null];
  if (changed) grid = null;
  if (moved) cursor = { unit: 0, time: model.window_length / 2 };
  if (kept) restoreEdits();
  drawAll();
}

const query = (fields) => new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== ""));

async function tellProgress() {
  const { id } = session;
  while (session.id === id && session.known && !(view?.session === id && view.problem)) {
    const { ready, sizes } = await request(`progress?${query({ session: id, output })}`);
    if (session.id !== id) return;
    $("status").textContent = !sizes ? "The model is being prepared for this session, once; this takes some seconds."
      : ready < sizes ? `Compiling for the windows of this session: ${ready} of ${sizes} sizes are ready.` : "";
    if (sizes && ready === sizes) return;
    await new Promise((go) => setTimeout(go, 400));
  }
  $("status").textContent = "";
}

const complain = (text) => { $("problem").textContent = text; };

// ---------------------------------------------------------------------------------------------------- edits
const edits = () => spikes.filter((s) => s.alive !== s.original);
const near = (unit, time, reach) => spikes
  .filter((s) => s.unit === unit && (s.alive || s.original) && Math.abs(s.time - time) <= reach)
  .sort((a, b) => Math.abs(a.time - time) - Math.abs(b.time - time))[0];

function turnOver(some) {
  for (const spike of some) spike.alive = !spike.alive;
  edited();
}

function toggle(reach) {
  let spike = near(cursor.unit, cursor.time, reach);
  if (!spike) spikes.push(spike = { ...cursor, original: false, alive: false });
  history.push([spike]);
  turnOver([spike]);
}

function silence() {
  const some = spikes.filter((s) => s.unit === cursor.unit && s.alive);
  if (some.length) history.push(some);
  turnOver(some);
}

const undo = () => turnOver(history.pop() ?? []);

function reset() {
  spikes = spikes.filter((s) => s.original);
  history = [];
  turnOver(edits());
}

function edited() {
  drawSpikes();
  update();
}

// ---------------------------------------------------------------------------------------------------- query times
function measuredGrid() {
  const times = view.query_times, last = times.length - 1;
  return { offset: times[0], rate: last ? last / (times[last] - times[0]) : 1, number: times.length };
}

function queryTimes() {
  if (!grid) return view.query_times;
  const times = Array.from({ length: grid.number }, (_, i) => grid.offset + i / grid.rate);
  return times.filter((time) => time <= model.window_length);
}

function changeGrid(change) {
  grid = { ...(grid ?? measuredGrid()), ...change };
  drawQueries();
  update();
}

function dragGrid(event) {
  const { offset, rate, number } = grid ?? measuredGrid();
  const at = (e) => timeAt($("strip"), e), from = at(event), last = queryTimes().at(-1);
  const stretch = number > 1 && last > offset && Math.abs(from - last) < 12 / scale($("strip")) * model.window_length;
  const steps = queryTimes().length - 1;
  $("strip").setPointerCapture(event.pointerId);
  $("strip").onpointermove = (e) => changeGrid(stretch ? { rate: steps / Math.max(at(e) - offset, steps / 1000) }
    : { offset: between(offset + at(e) - from, 0, model.window_length) });
}

// ---------------------------------------------------------------------------------------------------- controls
const between = (value, low, high) => Math.min(Math.max(value, low), high);

function choose(id, start, chosen = "") {
  [session, output] = [model.sessions.find((one) => one.id === id), chosen];
  start ??= session.first;
  for (const name of ["slider", "seconds"]) [$(name).min, $(name).max] = session.starts;
  move(start);
  tellProgress().catch((error) => complain(error.message));
}

function move(start, typed = false) {
  wanted = typed ? start : null;
  patience.abort();
  patience = new AbortController();
  $("slider").value = between(start, ...session.starts);
  update();
}

function point(event) {
  const row = Math.floor((event.clientY - $("raster").getBoundingClientRect().top) / rowHeight());
  cursor.unit = between(row, 0, view.unit_ids.length - 1);
  cursor.time = between(timeAt($("raster"), event), 0, model.window_length);
}

// 10 ms to the left or right, or with Shift to the unit's spike before or after.
function step(way, shift) {
  const own = spikes.filter((s) => s.unit === cursor.unit && s.alive).map((s) => s.time).sort((a, b) => way * (a - b));
  const next = own.find((time) => way * (time - cursor.time) > 1e-9) ?? cursor.time;
  cursor.time = shift ? next : between(cursor.time + way * 0.01, 0, model.window_length);
}

function press(event) {
  const row = (change) => { cursor.unit = between(cursor.unit + change, 0, view.unit_ids.length - 1); };
  const actions = {
    ArrowUp: () => row(-1), ArrowDown: () => row(1), Enter: () => toggle(0.005), " ": () => toggle(0.005), z: undo,
    ArrowLeft: () => step(-1, event.shiftKey), ArrowRight: () => step(1, event.shiftKey),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
  drawSpikes();
  const box = $("raster").parentElement, top = cursor.unit * rowHeight();
  box.scrollTop = between(box.scrollTop, top + 2 * rowHeight() - box.clientHeight, top);
}

function connect() {
  $("session").onchange = () => choose($("session").value);
  $("output").onchange = () => {
    kept = new URLSearchParams(location.hash.slice(1)); // the edits, which stay
    choose(session.id, view.start, $("output").value);
  };
  $("slider").oninput = () => move(Number($("slider").value));
  $("seconds").onchange = () => {
    if ($("seconds").value === "") $("seconds").value = view.start;
    else { move(Number($("seconds").value), true); drawAll(); }
  };
  $("earlier").onclick = () => move(view.start - model.window_length / 2);
  $("later").onclick = () => move(view.start + model.window_length / 2);
  $("raster").onclick = (event) => { point(event); toggle(6 / scale($("raster")) * model.window_length); };
  $("raster").onpointermove = (event) => { point(event); drawSpikes(); };
  $("raster").onkeydown = press;
  $("silence").onclick = silence; $("undo").onclick = undo; $("reset").onclick = reset;
  $("strip").onpointerdown = dragGrid;
  $("strip").onpointerup = $("strip").onpointercancel = () => { $("strip").onpointermove = null; };
  for (const name of ["number", "rate", "offset"]) $(name).oninput = () => changeGrid({ [name]: Number($(name).value) });
  $("as_measured").onclick = () => { grid = null; drawQueries(); update(); };
  new ResizeObserver(() => view && drawAll()).observe($("app"));
}

// ---------------------------------------------------------------------------------------------------- the address
// It keeps session, output, window, edits and query times, so that a page loaded again shows the same.
function remember() {
  const state = { session: session.id, start: view.start };
  if (view.outputs.length > 1) state.output = output;
  const removed = spikes.flatMap((s, i) => (s.original && !s.alive ? [i] : []));
  const added = spikes.filter((s) => s.alive && !s.original).map((s) => `${s.unit}:${s.time}`);
  if (removed.length) state.removed = removed.join(",");
  if (added.length) state.added = added.join(",");
  if (grid) state.grid = [grid.offset, grid.rate, grid.number].join(",");
  window.history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}

function restoreEdits() {
  const listed = (name) => (kept.get(name) ?? "").split(",").filter((text) => text !== "");
  const changed = listed("removed").map((place) => spikes[place]).filter((spike) => spike);
  for (const [unit, time] of listed("added").map((text) => text.split(":").map(Number)))
    if (unit in view.unit_ids && time >= 0 && time <= model.window_length)
      changed.push({ unit, time, original: false, alive: false });
  for (const spike of changed) {
    if (!spike.original) spikes.push(spike);
    spike.alive = !spike.alive;
    history.push([spike]);
  }
  const [offset, rate, number] = listed("grid").map(Number);
  if (offset >= 0 && rate > 0 && number >= 1) grid = { offset, rate, number };
  kept = null;
}

async function main() {
  model = await request("sessions");
  const text = (one) => `${one.id} (${one.num_units} units${one.known ? "" : ", not known to the model"})`;
  const first = model.sessions.find((one) => one.known) ?? model.sessions[0];
  $("session").replaceChildren(...model.sessions.map((one) => new Option(text(one), one.id)));
  kept = new URLSearchParams(location.hash.slice(1));
  const again = model.sessions.find((one) => one.id === kept.get("session")) ?? first;
  $("session").value = again.id;
  $("model").textContent = model.model;
  $("number").max = $("rate").max = model.max_queries;
  $("offset").max = model.window_length;
  $("status").textContent = "";
  $("app").hidden = false;
  connect();
  if (again.id !== kept.get("session")) kept = null;
  choose(again.id, kept?.has("start") ? Number(kept.get("start")) || 0 : undefined, kept?.get("output") ?? "");
}

// Where the newest of what is used is missing, the sentence at the top stays.
if (window.ResizeObserver && [].findLast) main().catch((error) => complain(error.message));

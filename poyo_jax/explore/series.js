// Arithmetic of series {times, values}, and where velocities lead.
const whole = (values) => values && !values.includes(null);

// Values of a series at a time: linear between samples, null where one is missing.
function valueAt({ times, values }, time) {
  const after = times.findIndex((t) => t >= time);
  if (after <= 0 || times[after] === time) return values.at(after);
  const share = (time - times[after - 1]) / (times[after] - times[after - 1]), pair = [values[after - 1], values[after]];
  return pair.every(whole) ? pair[1].map((value, c) => value * share + pair[0][c] * (1 - share)) : pair[1].map(() => null);
}

// One series minus another at `times`.
const differences = (times, one, other) => times.map((time) => {
  const [a, b] = [valueAt(one, time), valueAt(other, time)];
  return whole(a) && whole(b) ? a.map((value, c) => value - b[c]) : Array(numChannels()).fill(null);
});
const lengths = (vectors) => vectors.filter(whole).map((v) => Math.hypot(...v));

// Where velocity leads from a place, by the rule of trapezoids; what is missing moves nothing.
function integrate({ times, values }, [x, y]) {
  return { times, values: values.map((value, i) => {
    const step = (times[i] - times[i - 1]) / 2;
    if (i && whole(value) && whole(values[i - 1])) {
      x += step * (value[0] + values[i - 1][0]);
      y += step * (value[1] + values[i - 1][1]);
    }
    return [x, y];
  }) };
}

function measuredPath() {
  if (!view.position) return integrate(view.targets, [0, 0]);
  const { times, values } = view.position, origin = values.find(whole) ?? [0, 0];
  return { times, values: values.map((place) => whole(place) ? place.map((v, c) => v - origin[c]) : place) };
}

// Measured and decoded; the latter begin on the measured path, at the time of the first query.
function trajectories() {
  const measured = measuredPath(), place = (time) => measured.times.length ? valueAt(measured, time) : null;
  return shownSeries().filter(([, s]) => s.times.length).map(([kind, s]) => {
    const begin = place(s.times[0]), moved = kind === "measured" ? measured : integrate(s, whole(begin) ? begin : [0, 0]);
    return [kind, moved.values.map((p) => whole(p) ? p : null)];
  });
}

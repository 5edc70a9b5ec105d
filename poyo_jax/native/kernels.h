// The computation, included once for every instruction set in a namespace of its own.
//
// LANES is the number of floats in a vector, TALL x WIDE the rows and panels that a product keeps
// in registers. HAS_BF16 tells that the CPU multiplies pairs of bfloat16. Matrices on the right of
// a product lie in panels of 16 columns: [panels][depth][16]. Rows and columns are padded with zeros
// to multiples of 16. Words are what a product multiplies: float, or two bfloat16 in a uint32_t.

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float VecAt __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint32_t BitsAt __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

constexpr int PARTS = 16 / LANES;  // vectors in a row of a panel

INLINE Vec load(const float *p) { return *(const VecAt *)p; }
INLINE void store(float *p, Vec x) { *(VecAt *)p = x; }
INLINE Vec all(float x) { return Vec{} + x; }
INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }
INLINE Vec smaller(Vec a, Vec b) { return a < b ? a : b; }

INLINE float sum_of(Vec x) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return sum;
}

INLINE float largest_of(Vec x) {
  float largest = x[0];
  for (int i = 1; i < LANES; i++) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// exp(x) for x <= 0, to 2e-7: 2^n times a polynomial of the rest. Below -87 it is about 1e-38.
INLINE Vec exponential(Vec x) {
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to a whole number
  x = larger(x, all(-87.f));
  Vec shifted = x * 1.44269504f + magic;
  Vec n = shifted - magic;
  Vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  Bits power = ((Bits)shifted - 0x4b400000u + 127u) << 23;
  return p * (Vec)power;
}

// erf(x) to 3e-7: a rational function on [-4, 4].
INLINE Vec error_function(Vec x) {
  x = smaller(larger(x, all(-4.f)), all(4.f));
  Vec y = x * x;
  Vec p = y * -2.72614225801306e-10f + 2.77068142495902e-08f;
  p = p * y - 2.10102402082508e-06f;
  p = p * y - 5.69250639462346e-05f;
  p = p * y - 7.34990630326855e-04f;
  p = p * y - 2.95459980854025e-03f;
  p = p * y - 1.60960333262415e-02f;
  Vec q = y * -1.45660718464996e-05f - 2.13374055278905e-04f;
  q = q * y - 1.68282697438203e-03f;
  q = q * y - 7.37332916720468e-03f;
  q = q * y - 1.42647390514189e-02f;
  return x * p / q;
}

// --- words -------------------------------------------------------------------------------------

template <class W> constexpr int STEP = 1;  // numbers in a word
template <> constexpr int STEP<uint32_t> = 2;

INLINE void multiply_add(Vec &sum, float a, const float *b) { sum += a * load(b); }

INLINE void multiply_add(Vec &sum, uint32_t a, const uint32_t *b) {
  Bits pair = *(const BitsAt *)b;
#if HAS_BF16
  sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)pair);
#else
  Bits factor = Bits{} + a;
  sum += (Vec)(factor << 16) * (Vec)(pair << 16);
  sum += (Vec)(factor & 0xffff0000u) * (Vec)(pair & 0xffff0000u);
#endif
}

INLINE uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

INLINE uint32_t rounded(uint32_t bits) { return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16; }

// Words of a row, whose neighbours make pairs. Floats are words already.
INLINE const float *words_of_row(const float *row, float *, int64_t) { return row; }
INLINE const uint32_t *words_of_row(const float *row, uint32_t *words, int64_t count) {
  for (int64_t i = 0; i < count / 2; i++)
    words[i] = rounded(float_bits(row[2 * i])) | rounded(float_bits(row[2 * i + 1])) << 16;
  return words;
}

// Words of rows of 16, of which two that follow each other make pairs.
INLINE const float *words_of_panel(const float *panel, float *, int64_t) { return panel; }
INLINE const uint32_t *words_of_panel(const float *panel, uint32_t *words, int64_t rows) {
  for (int64_t i = 0; i < rows / 2; i++)
    for (int c = 0; c < 16; c++) {
      uint32_t low = rounded(float_bits(panel[i * 32 + c]));
      words[i * 16 + c] = low | rounded(float_bits(panel[i * 32 + 16 + c])) << 16;
    }
  return words;
}

// Where to make what is shared: floats in their place, others beside it.
INLINE float *made_in(float *shared, float *) { return shared; }
INLINE float *made_in(uint32_t *, float *spare) { return spare; }

// --- products ----------------------------------------------------------------------------------

// c[row][panel] (+)= bias[panel] + sum over k of a[row][k] b[panel][k]
template <class W> struct Product {
  const W *a;
  int64_t a_row, a_step;
  const W *b;
  int64_t b_panel;
  int depth;
  float *c;
  int64_t c_row, c_panel;
  const float *bias = nullptr;
  bool add = false;
};

template <class W, int ROWS, int PANELS>
INLINE void tile(const Product<W> &p, int row, int panel) {
  constexpr int VECS = PARTS * PANELS;
  Vec sum[ROWS][VECS];
  const W *a = p.a + row * p.a_row, *b = p.b + panel * p.b_panel;
  const int64_t a_row = p.a_row, a_step = p.a_step, b_panel = p.b_panel;
  float *c = p.c + row * p.c_row + panel * p.c_panel;
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 16
    for (int j = 0; j < VECS; j++) {
      const int64_t place = j / PARTS * p.c_panel + j % PARTS * LANES;
      sum[i][j] = p.add ? load(c + i * p.c_row + place) : Vec{};
      if (p.bias) sum[i][j] += load(p.bias + panel * 16 + j * LANES);
    }
  for (int k = 0; k < p.depth; k++) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const W factor = a[i * a_row];
#pragma GCC unroll 16
      for (int j = 0; j < VECS; j++)
        multiply_add(sum[i][j], factor, b + j / PARTS * b_panel + j % PARTS * LANES);
    }
    a += a_step;
    b += 16;
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 16
    for (int j = 0; j < VECS; j++)
      store(c + i * p.c_row + j / PARTS * p.c_panel + j % PARTS * LANES, sum[i][j]);
}

template <class W, int ROWS, int PANELS>
INLINE void tiles(const Product<W> &p, int row, int rows, int panel) {
  for (; row + ROWS <= rows; row += ROWS) tile<W, ROWS, PANELS>(p, row, panel);
  if constexpr (ROWS > 1) tiles<W, ROWS == 6 ? 4 : ROWS / 2, PANELS>(p, row, rows, panel);
}

constexpr int DEPTH = 256;  // words of a part of a product: its panels stay in the first cache

template <class W> static void multiply(Product<W> p, int rows, int panels) {
  const int depth = p.depth;
  for (int first = 0; first < depth; first += DEPTH) {
    p.depth = depth - first < DEPTH ? depth - first : DEPTH;
    int panel = 0;
    for (; panel + WIDE <= panels; panel += WIDE) tiles<W, TALL, WIDE>(p, 0, rows, panel);
    for (; panel < panels; panel++) tiles<W, TALL, 1>(p, 0, rows, panel);
    p.a += p.depth * p.a_step;
    p.b += p.depth * 16;
    p.add = true;
    p.bias = nullptr;
  }
}

// --- steps of a layer --------------------------------------------------------------------------

static void normalise(const float *x, int rows, int dim, const float *scale, const float *shift,
                      float *y) {
  const int width = padded(dim);
  for (int r = 0; r < rows; r++, x += width, y += width) {
    Vec sum = {}, squares = {};
    for (int i = 0; i < width; i += LANES) sum += load(x + i);
    const float mean = sum_of(sum) / dim;
    for (int i = 0; i < width; i += LANES) {
      Vec off = load(x + i) - mean;
      squares += off * off;
    }
    const float total = sum_of(squares) - (width - dim) * mean * mean;
    const float factor = 1.f / sqrtf(total / dim + 1e-5f);
    for (int i = 0; i < width; i += LANES)
      store(y + i, (load(x + i) - mean) * factor * load(scale + i) + load(shift + i));
  }
}

// Rotates the pairs (i, i + pairs) of channels of a row, forwards or backwards.
INLINE void rotate(float *x, const float *cos, const float *sin, int pairs, float direction) {
  for (int i = 0; i < pairs; i++) {
    const float first = x[i], second = x[pairs + i], turn = direction * sin[i];
    x[i] = first * cos[i] - second * turn;
    x[pairs + i] = second * cos[i] + first * turn;
  }
}

// Weights of `count` scores, not divided by their sum, whose inverse is returned.
INLINE float soften(float *scores, int count) {
  const int width = padded(count);
  for (int i = count; i < width; i++) scores[i] = -1e30f;
  Vec largest = load(scores), total = {};
  for (int i = LANES; i < width; i += LANES) largest = larger(largest, load(scores + i));
  const float most = largest_of(largest);
  for (int i = 0; i < width; i += LANES) {
    Vec weight = exponential(load(scores + i) - most);
    total += weight;
    store(scores + i, weight);
  }
  return 1.f / sum_of(total);
}

// x += the residual branch of norm, gated GELU and projection back.
template <class W>
static void feedforward(const Sizes &s, const FeedForward &f, float *x, int rows, Worker &w) {
  const int dim = s.width, hidden = s.hidden;
  for (; rows > 0; rows -= BLOCK, x += BLOCK * dim) {
    const int block = rows < BLOCK ? rows : BLOCK;
    normalise(x, block, s.dim, f.scale, f.shift, w.normed.floats);
    const W *a = words_of_row(w.normed.floats, w.normed.as<W>(), (int64_t)block * dim);
    const int depth = dim / STEP<W>;
    for (int panel = 0; panel < hidden / 16; panel++) {
      const W *b = (const W *)f.expand + (int64_t)panel * 32 * depth;
      float *pair = w.pair.floats;
      const int64_t gates = (int64_t)block * 16;
      multiply<W>({a, depth, 1, b, 16 * depth, depth, pair, 16, gates, f.expand_bias + panel * 32},
                  block, 2);
      for (int r = 0; r < block; r++)
        for (int c = 0; c < 16; c += LANES) {
          Vec value = load(pair + r * 16 + c), gate = load(pair + gates + r * 16 + c);
          Vec gelu = gate * 0.5f * (error_function(gate * 0.70710678f) + 1.f);
          store(w.hidden.floats + (int64_t)r * hidden + panel * 16 + c, value * gelu);
        }
    }
    const int inner = hidden / STEP<W>;
    const W *h = words_of_row(w.hidden.floats, w.hidden.as<W>(), (int64_t)block * hidden);
    multiply<W>({h, inner, 1, (const W *)f.contract, 16 * inner, inner, x, dim, 16,
                 f.contract_bias, true},
                block, dim / 16);
  }
}

// Keys and values of this worker's latents, from normalised rows. Keys are made transposed.
template <class W>
static void keys_and_values(const Model &m, const Projection &p, Shared &out, bool rotate_values,
                            Worker &w) {
  const Sizes &s = m.sizes;
  const int dim = s.width / STEP<W>, heads = p.heads, panels = padded(w.rows) / 16;
  const int64_t first = w.first / 16;
  for (int r = 0; r < w.rows; r++) {
    const float *row = w.normed.floats + (int64_t)r * s.width;
    float *column = w.columns.floats + r / 16 * 16 * (int64_t)s.width + r % 16;
    for (int c = 0; c < s.width; c++) column[c * 16] = row[c];
  }
  const W *a = words_of_row(w.normed.floats, w.normed.as<W>(), (int64_t)w.rows * s.width);
  const W *columns = words_of_panel(w.columns.floats, w.columns.as<W>(), (int64_t)panels * s.width);
  for (int h = 0; h < heads; h++) {
    const int64_t head_words = (int64_t)s.head_dim / STEP<W> * 16;
    W *shared = (W *)out.keys + (h * (int64_t)(s.rows / 16) + first) * head_words;
    float *keys = made_in(shared, w.head.floats);
    multiply<W>({(const W *)p.keys + (int64_t)h * s.head_dim * dim, dim, 1, columns, 16 * dim, dim,
                 keys, 16, 16 * s.head_dim},
                s.head_dim, panels);
    for (int panel = 0; panel < panels; panel++) {
      float *k = keys + (int64_t)panel * 16 * s.head_dim;
      const float *cos = m.cos_panels + (first + panel) * 16 * s.pairs;
      const float *sin = m.sin_panels + (first + panel) * 16 * s.pairs;
      for (int i = 0; i < 16 * s.pairs; i++) {
        const float one = k[i], other = k[16 * s.pairs + i];
        k[i] = one * cos[i] - other * sin[i];
        k[16 * s.pairs + i] = other * cos[i] + one * sin[i];
      }
    }
    words_of_panel(keys, shared, (int64_t)panels * s.head_dim);

    float *values = w.head.floats;
    multiply<W>({a, dim, 1, (const W *)p.values + (int64_t)h * s.head_width * dim, 16 * dim, dim,
                 values, s.head_width, 16},
                w.rows, s.head_width / 16);
    for (int r = 0; r < w.rows && rotate_values; r++)
      rotate(values + r * s.head_width, m.cos + (w.first + r) * (int64_t)s.pairs,
             m.sin + (w.first + r) * (int64_t)s.pairs, s.pairs, 1.f);
    for (int panel = 0; panel < s.head_width / 16; panel++) {
      const int64_t per_panel = (int64_t)s.rows / STEP<W> * 16;
      W *to = (W *)out.values + (h * (int64_t)(s.head_width / 16) + panel) * per_panel +
              (int64_t)w.first / STEP<W> * 16;
      float *rows = made_in(to, w.panel.floats);
      for (int r = 0; r < w.rows; r++)
        memcpy(rows + r * 16, values + r * s.head_width + panel * 16, 64);
      words_of_panel(rows, to, (int64_t)panels * 16);
    }
  }
}

// Attention of rotated queries [rows][head_width] to all latents, into columns of `to`.
template <class W>
static void attend(const Model &m, const Shared &in, int head, const float *query, int rows,
                   float *to, int64_t to_row, const float *cos, const float *sin, Worker &w) {
  const Sizes &s = m.sizes;
  const int width = s.head_width / STEP<W>, depth = s.head_dim / STEP<W>, all_rows = s.rows;
  const W *keys = (const W *)in.keys + (int64_t)head * (all_rows / 16) * depth * 16;
  const W *values = (const W *)in.values + (int64_t)head * all_rows / STEP<W> * s.head_width;
  const W *q = words_of_row(query, w.query.as<W>(), (int64_t)rows * s.head_width);
  for (int first = 0; first < rows; first += SCORED) {
    const int block = rows - first < SCORED ? rows - first : SCORED;
    float *scores = w.scores.floats, inverse[SCORED];
    multiply<W>({q + (int64_t)first * width, width, 1, keys, 16 * depth, depth, scores, all_rows,
                 16},
                block, all_rows / 16);
    for (int r = 0; r < block; r++) inverse[r] = soften(scores + r * (int64_t)all_rows, s.latents);
    const W *weights = words_of_row(scores, w.scores.as<W>(), (int64_t)block * all_rows);
    const int inner = all_rows / STEP<W>;
    float *out = to + first * to_row;
    multiply<W>({weights, inner, 1, values, 16 * inner, inner, out, to_row, 16}, block,
                s.head_width / 16);
    for (int r = 0; r < block; r++) {
      float *row = out + r * to_row;
      for (int c = 0; c < s.head_width; c += LANES) store(row + c, load(row + c) * inverse[r]);
      if (cos)
        rotate(row, cos + (first + r) * (int64_t)s.pairs, sin + (first + r) * (int64_t)s.pairs,
               s.pairs, -1.f);
    }
  }
}

template <class W>
static void self_attention(Model &m, const Layer &l, Shared &shared, float *x, Worker &w) {
  const Sizes &s = m.sizes;
  const float *cos = m.cos + w.first * (int64_t)s.pairs, *sin = m.sin + w.first * (int64_t)s.pairs;
  normalise(x, w.rows, s.dim, l.scale, l.shift, w.normed.floats);
  keys_and_values<W>(m, l.attention, shared, true, w);
  m.team.meet();
  const int dim = s.width / STEP<W>, joined = s.self_heads * s.head_width;
  const W *a = words_of_row(w.normed.floats, w.normed.as<W>(), (int64_t)w.rows * s.width);
  for (int h = 0; h < s.self_heads; h++) {
    multiply<W>({a, dim, 1, (const W *)l.queries + (int64_t)h * s.head_width * dim, 16 * dim, dim,
                 w.query.floats, s.head_width, 16},
                w.rows, s.head_width / 16);
    for (int r = 0; r < w.rows; r++)
      rotate(w.query.floats + r * s.head_width, cos + r * (int64_t)s.pairs,
             sin + r * (int64_t)s.pairs, s.pairs, 1.f);
    attend<W>(m, shared, h, w.query.floats, w.rows, w.joined.floats + h * s.head_width, joined, cos,
              sin, w);
  }
  const int depth = joined / STEP<W>;
  const W *out = words_of_row(w.joined.floats, w.joined.as<W>(), (int64_t)w.rows * joined);
  multiply<W>({out, depth, 1, (const W *)l.attention.output, 16 * depth, depth, x, s.width, 16,
               l.attention.output_bias, true},
              w.rows, s.width / 16);
}

// --- encoder -----------------------------------------------------------------------------------

// Cosines and sines of the angles of a time: the phase in turns is reduced in float64.
INLINE void phases(double time, const double *hertz, int pairs, float *cos, float *sin) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number
  for (int i = 0; i < pairs; i++) {
    double turn = time * hertz[i];
    turn -= (turn + magic) - magic;
    const double y = turn * turn;  // series of half the angle, pi * turn
    double c = 4.303069587032947e-6, s = 7.952054001475513e-7;
    c = c * y - 1.0463810492484571e-4;
    c = c * y + 1.9295743094039231e-3;
    c = c * y - 2.5806891390014061e-2;
    c = c * y + 2.3533063035889321e-1;
    c = c * y - 1.3352627688545895;
    c = c * y + 4.0587121264167682;
    c = c * y - 4.9348022005446793;
    c = c * y + 1.0;
    s = s * y - 2.1915353447830216e-5;
    s = s * y + 4.6630280576761257e-4;
    s = s * y - 7.3704309457143507e-3;
    s = s * y + 8.2145886611128229e-2;
    s = s * y - 5.9926452932079208e-1;
    s = s * y + 2.5501640398773455;
    s = s * y - 5.1677127800499700;
    s = (s * y + 3.1415926535897932) * turn;
    cos[i] = (float)((c - s) * (c + s));
    sin[i] = (float)(2 * s * c);
  }
}

// Rotated keys [tokens][head_dim] and values [panels][TOKENS][16] of a head.
static void token_rows(const Model &m, const Job &job, int64_t first, int count, int head,
                       Worker &w) {
  const Sizes &s = m.sizes;
  for (int i = 0; i < count; i++) {
    const int64_t row = (int64_t)head * s.units + job.units[first + i];
    const float *cos = w.cos.floats + i * s.pairs, *sin = w.sin.floats + i * s.pairs;
    float *key = w.keys.floats + (int64_t)i * s.head_dim, *value = w.value.floats;
    memcpy(key, m.unit_keys + row * s.head_dim, (size_t)s.head_dim * 4);
    rotate(key, cos, sin, s.pairs, 1.f);
    memcpy(value, m.unit_values + row * s.head_dim, (size_t)s.head_dim * 4);
    rotate(value, cos, sin, s.pairs, 1.f);
    for (int panel = 0; panel < s.head_width / 16; panel++)
      memcpy(w.values.floats + ((int64_t)panel * TOKENS + i) * 16, value + panel * 16, 64);
  }
}

// Takes the scores [tokens][columns] of this worker's latents into their sums.
static void gather(const Sizes &s, int count, int columns, float *largest, float *total, float *out,
                   Worker &w) {
  float *scores = w.scores.floats;
  for (int c = 0; c < columns; c += LANES) {
    Vec before = load(largest + c), most = before, sum = {};
    for (int i = 0; i < count; i++) most = larger(most, load(scores + i * columns + c));
    Vec factor = exponential(before - most);
    for (int i = 0; i < count; i++) {
      Vec weight = exponential(load(scores + i * columns + c) - most);
      sum += weight;
      store(scores + i * columns + c, weight);
    }
    store(largest + c, most);
    store(total + c, load(total + c) * factor + sum);
    for (int i = 0; i < LANES; i++)
      for (int k = 0; k < s.head_width; k += LANES) {
        float *row = out + (int64_t)(c + i) * s.head_width + k;
        store(row, load(row) * factor[i]);
      }
  }
  multiply<float>({scores, 1, columns, w.values.floats, TOKENS * 16, count, out, s.head_width, 16,
                   nullptr, true},
                  w.rows, s.head_width / 16);
}

static void add_spikes(const Model &m, const Job &job, Worker &w) {
  const Sizes &s = m.sizes;
  const int columns = padded(w.rows);
  for (int64_t first = 0; first < job.num_spikes && w.rows; first += TOKENS) {
    const int left = (int)(job.num_spikes - first < TOKENS ? job.num_spikes - first : TOKENS);
    for (int i = 0; i < left; i++)
      phases(job.times[first + i], m.hertz, s.pairs, w.cos.floats + i * s.pairs,
             w.sin.floats + i * s.pairs);
    for (int h = 0; h < s.cross_heads; h++) {
      token_rows(m, job, first, left, h, w);
      const float *queries = m.encoder_queries + ((int64_t)h * s.rows + w.first) * s.head_dim;
      multiply<float>({w.keys.floats, s.head_dim, 1, queries, 16 * s.head_dim, s.head_dim,
                       w.scores.floats, columns, 16},
                      left, columns / 16);
      float *state = job.state + (int64_t)h * s.rows * (2 + s.head_width);
      gather(s, left, columns, state + w.first, state + s.rows + w.first,
             state + 2 * s.rows + (int64_t)w.first * s.head_width, w);
    }
  }
}

// --- a window ----------------------------------------------------------------------------------

static void start_latents(const Model &m, const Job &job, float *x, Worker &w) {
  const Sizes &s = m.sizes;
  const int joined = s.cross_heads * s.head_width;
  memcpy(x, m.latents + w.first * (int64_t)s.width, (size_t)w.rows * s.width * 4);
  for (int h = 0; h < s.cross_heads; h++) {
    const float *state = job.state + (int64_t)h * s.rows * (2 + s.head_width);
    for (int r = 0; r < w.rows; r++) {
      const int64_t latent = w.first + r;
      const float inverse = 1.f / state[s.rows + latent];
      const float *from = state + 2 * s.rows + latent * s.head_width;
      float *to = w.joined.floats + (int64_t)r * joined + h * s.head_width;
      for (int c = 0; c < s.head_width; c += LANES) store(to + c, load(from + c) * inverse);
      rotate(to, m.cos + latent * s.pairs, m.sin + latent * s.pairs, s.pairs, -1.f);
    }
  }
  multiply<float>({w.joined.floats, joined, 1, m.encoder_output, 16 * joined, joined, x, s.width,
                   16, m.encoder_output_bias, true},
                  w.rows, s.width / 16);
  feedforward<float>(s, m.encoder_feedforward, x, w.rows, w);
}

// Values at the queries first, first + 1, ... of which there are `count` <= SCORED.
static void read_out(const Model &m, const Job &job, int64_t first, int count, Worker &w) {
  const Sizes &s = m.sizes;
  const int joined = s.cross_heads * s.head_width;
  for (int i = 0; i < count; i++)
    for (int f = 0; f < s.pairs; f++) {
      const float angle = (float)job.queries[first + i] * m.omega[f];
      w.cos.floats[i * s.pairs + f] = (float)cos((double)angle);
      w.sin.floats[i * s.pairs + f] = (float)sin((double)angle);
    }
  for (int h = 0; h < s.cross_heads; h++) {
    for (int i = 0; i < count; i++) {
      float *query = w.query.floats + i * s.head_width;
      memcpy(query, m.query + h * s.head_width, (size_t)s.head_width * 4);
      rotate(query, w.cos.floats + i * s.pairs, w.sin.floats + i * s.pairs, s.pairs, 1.f);
    }
    attend<float>(m, m.context, h, w.query.floats, count, w.joined.floats + h * s.head_width,
                  joined, nullptr, nullptr, w);
  }
  float *y = w.answers.floats;
  for (int i = 0; i < count; i++) memcpy(y + i * s.width, m.session, (size_t)s.width * 4);
  multiply<float>({w.joined.floats, joined, 1, m.read.output, 16 * joined, joined, y, s.width, 16,
                   m.read.output_bias, true},
                  count, s.width / 16);
  feedforward<float>(s, m.decoder_feedforward, y, count, w);
  float *out = w.outputs.floats;
  const int outputs = padded(s.channels);
  multiply<float>({y, s.width, 1, m.head, 16 * s.width, s.width, out, outputs, 16, m.head_bias},
                  count, outputs / 16);
  for (int i = 0; i < count; i++)
    for (int c = 0; c < s.channels; c++)
      job.values[(first + i) * s.channels + c] = out[i * outputs + c] * m.deviation[c] + m.mean[c];
}

// The part of a job that worker number `number` does; all workers meet once in every layer.
template <class W> static void work(Model &m, const Job &job, int number) {
  Worker &w = m.workers[number];
  const Sizes &s = m.sizes;
  add_spikes(m, job, w);
  if (!job.values) return;
  float *x = m.x + w.first * (int64_t)s.width;
  start_latents(m, job, x, w);
  for (size_t i = 0; i < m.layers.size(); i++) {
    const Layer &layer = m.layers[i];
    self_attention<W>(m, layer, m.shared[i % 2], x, w);
    feedforward<W>(s, layer.feedforward, x, w.rows, w);
  }
  normalise(x, w.rows, s.dim, m.context_scale, m.context_shift, w.normed.floats);
  keys_and_values<float>(m, m.read, m.context, false, w);
  m.team.meet();
  const int64_t num_workers = (int64_t)m.workers.size();
  const int64_t first = job.num_queries * number / num_workers;
  const int64_t last = job.num_queries * (number + 1) / num_workers;
  for (int64_t query = first; query < last; query += SCORED)
    read_out(m, job, query, (int)(last - query < SCORED ? last - query : SCORED), w);
}

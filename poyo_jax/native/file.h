// Reads a .poyo file. Nothing in it is trusted: sizes are bounded and must add up to its length.
//
//   8 bytes   "POYORT1\n"
//   32 bytes  SHA-256 of all that follows
//   10 uint32 dim, depth, head_dim, cross_heads, self_heads, latents, channels, units, queries,
//             bytes of the unit ids
//   float64   window_length, hop; queries, means and deviations of the channels, times of latents
//   float32   the arrays of `Reader::read`, in its order
//   bytes     unit ids, each ended by 0
// Numbers are little-endian.
#pragma once
#include <cmath>
#include <stdexcept>

#include "model.h"

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

static inline void require(bool holds, const std::string &sentence) {
  if (!holds) throw Refused(sentence);
}

// --- SHA-256 (FIPS 180-4) ------------------------------------------------------------------------

class Sha256 {
 public:
  static void digest(const uint8_t *bytes, size_t size, uint8_t out[32]) {
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t done = 0;
    for (; done + 64 <= size; done += 64) mix(h, bytes + done);
    uint8_t last[128] = {};
    const size_t rest = size - done;
    if (rest) memcpy(last, bytes + done, rest);
    last[rest] = 0x80;
    const size_t length = rest < 56 ? 64 : 128;
    for (int i = 0; i < 8; i++) last[length - 1 - i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
    for (size_t i = 0; i < length; i += 64) mix(h, last + i);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
  }

 private:
  static uint32_t turn(uint32_t x, int by) { return x >> by | x << (32 - by); }

  // First 32 bits of the fractional parts of cube roots of primes.
  static const uint32_t *constants() {
    static const std::vector<uint32_t> table = [] {
      std::vector<uint32_t> made;
      for (int candidate = 2; made.size() < 64; candidate++) {
        bool prime = true;
        for (int i = 2; i * i <= candidate; i++) prime = prime && candidate % i;
        if (!prime) continue;
        // The root times 2^32 is the largest whole number whose cube is at most prime * 2^96.
        unsigned __int128 low = 0, high = (unsigned __int128)8 << 32;
        while (high - low > 1) {
          const unsigned __int128 middle = (low + high) / 2;
          // Compare middle^3 with candidate * 2^96: both sides divided by middle, rounded safely.
          const unsigned __int128 square = middle * middle;
          const unsigned __int128 whole = ((unsigned __int128)candidate << 96) / middle;
          (square <= whole ? low : high) = middle;
        }
        made.push_back((uint32_t)low);
      }
      return made;
    }();
    return table.data();
  }

  static void mix(uint32_t h[8], const uint8_t *block) {
    const uint32_t *k = constants();
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
      w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
             (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      const uint32_t s0 = turn(a, 7) ^ turn(a, 18) ^ a >> 3;
      const uint32_t s1 = turn(b, 17) ^ turn(b, 19) ^ b >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t v[8];
    memcpy(v, h, 32);
    for (int i = 0; i < 64; i++) {
      const uint32_t s1 = turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25);
      const uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
      const uint32_t one = v[7] + s1 + choice + k[i] + w[i];
      const uint32_t s0 = turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22);
      const uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
      for (int j = 7; j > 0; j--) v[j] = v[j - 1];
      v[4] += one;
      v[0] = one + s0 + majority;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
  }
};

// --- the file ------------------------------------------------------------------------------------

class Reader {
 public:
  Reader(Model &model, const uint8_t *bytes, size_t size) : m(model), s(model.sizes) {
    require(size >= 96 && !memcmp(bytes, "POYORT1\n", 8),
            "this is no .poyo file of this version: write one with StreamDecoder.save");
    uint8_t digest[32];
    Sha256::digest(bytes + 40, size - 40, digest);
    require(!memcmp(digest, bytes + 8, 32),
            "the .poyo file is damaged, its digest does not fit: copy or write it again");
    at_ = bytes + 40;
    end_ = bytes + size;
  }

  void read() {
    read_sizes();
    read_settings();
    read_weights();
    read_units();
  }

 private:
  Model &m;
  Sizes &s;
  const uint8_t *at_, *end_;
  uint32_t id_bytes_;

  template <class T> T number() {
    T value;
    require((size_t)(end_ - at_) >= sizeof value, "the .poyo file is too short: write it again");
    memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  int size(const char *name, uint32_t least, uint32_t most) {
    const uint32_t value = number<uint32_t>();
    require(least <= value && value <= most,
            std::string("the .poyo file has ") + name + " = " + std::to_string(value) +
                ", outside of " + std::to_string(least) + " to " + std::to_string(most));
    return (int)value;
  }

  void read_sizes() {
    s.dim = size("dim", 1, 65536);
    s.depth = size("depth", 1, 1000);
    s.head_dim = size("head_dim", 8, 1024);
    s.cross_heads = size("cross_heads", 1, 4096);
    s.self_heads = size("self_heads", 1, 4096);
    s.latents = size("latents", 1, 4096);
    s.channels = size("channels", 1, 65536);
    s.units = size("units", 1, 1 << 20);
    s.queries = size("queries", 1, 4096);
    id_bytes_ = (uint32_t)size("bytes of unit ids", 1, 1 << 28);
    require(s.head_dim % 8 == 0, "the .poyo file has a head_dim that is no multiple of 8");
    s.width = padded(s.dim);
    s.hidden = padded(4 * s.dim);
    s.head_width = padded(s.head_dim);
    s.rows = padded(s.latents);
    s.pairs = s.head_dim / 4;
    const int64_t most_heads = s.self_heads > s.cross_heads ? s.self_heads : s.cross_heads;
    require(most_heads * s.head_width <= 65536 && most_heads * s.head_width * s.rows <= 1 << 26,
            "the .poyo file has more heads and latents than any model");
    require((uint64_t)(end_ - at_) == expected_bytes(),
            "the .poyo file has another length than its sizes say: write it again");
  }

  uint64_t expected_bytes() const {
    const uint64_t D = s.dim, K = s.head_dim, L = s.latents, C = s.channels, U = s.units;
    const uint64_t cross = s.cross_heads * K, self = s.self_heads * K;
    const uint64_t feedforward = 2 * D + 8 * D * D + 8 * D + 4 * D * D + D;
    const uint64_t encoder = L * D + cross * D + D + feedforward;
    const uint64_t layer = 2 * D + D * 3 * self + self * D + D + feedforward;
    const uint64_t decoder = 2 * D + D * 2 * cross + D + cross + cross * D + D + feedforward;
    const uint64_t tables = cross * L + 2 * cross * U + 2 * s.cross_heads * L + cross * L + K / 4;
    const uint64_t floats = encoder + s.depth * layer + decoder + D * C + C + tables;
    const uint64_t doubles = 2 + s.queries + 2 * C + L;
    return 8 * doubles + 4 * floats + id_bytes_;
  }

  std::vector<double> doubles(int count, const char *name, double least, double most) {
    std::vector<double> values(count);
    for (double &value : values) {
      value = number<double>();
      require(least <= value && value <= most,
              std::string("the .poyo file has a wrong number among its ") + name);
    }
    return values;
  }

  void read_settings() {
    m.window_length = doubles(1, "settings", 1e-6, 3600)[0];
    m.hop = doubles(1, "settings", 1e-6, m.window_length)[0];
    m.queries = doubles(s.queries, "queries", 0, m.window_length);
    m.mean_ = doubles(s.channels, "means", -1e300, 1e300);
    m.deviation_ = doubles(s.channels, "deviations", 1e-300, 1e300);
    m.mean = m.mean_.data();
    m.deviation = m.deviation_.data();
    times_ = doubles(s.latents, "times of latents", 0, m.window_length);
  }

  std::vector<double> times_;

  // The next array, rows x columns. Blocks of rows and of columns are padded to multiples of 16.
  std::vector<float> matrix(int rows, int row_block, int columns, int column_block) {
    const int tall = rows / row_block * padded(row_block);
    const int wide = columns / column_block * padded(column_block);
    std::vector<float> made((size_t)tall * wide);
    for (int r = 0; r < rows; r++) {
      const size_t row = (size_t)(r / row_block) * padded(row_block) + r % row_block;
      for (int c = 0; c < columns; c++) {
        const float value = number<float>();
        require(std::isfinite(value), "the .poyo file has weights that are not finite");
        made[row * wide + c / column_block * padded(column_block) + c % column_block] = value;
      }
    }
    return made;
  }

  std::vector<float> exactly(int rows, int columns) {
    std::vector<float> made((size_t)rows * columns);
    for (float &value : made) {
      value = number<float>();
      require(std::isfinite(value), "the .poyo file has weights that are not finite");
    }
    return made;
  }

  float *keep(const std::vector<float> &values) {
    float *kept = m.zeros((int64_t)values.size());
    memcpy(kept, values.data(), values.size() * 4);
    return kept;
  }

  const float *vector(int count) { return keep(matrix(1, 1, count, count)); }

  static uint32_t bfloat(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  }

  // Rows of panels, or rows, as words: pairs of bfloat16 along the depth, or the floats themselves.
  const float *words(const std::vector<float> &made, bool pairs, int apart) {
    if (!pairs) return keep(made);
    uint32_t *kept = (uint32_t *)m.zeros((int64_t)made.size() / 2);
    for (size_t i = 0; i < made.size() / 2; i++) {
      const size_t low = i / apart * 2 * apart + i % apart;
      kept[i] = bfloat(made[low]) | bfloat(made[low + apart]) << 16;
    }
    return (const float *)kept;
  }

  // Columns first, first + 1, ... of a padded matrix as panels.
  const float *panels(const std::vector<float> &from, int depth, int first, int count, bool pairs,
                      float factor = 1) {
    const size_t wide = from.size() / depth;
    std::vector<float> made((size_t)depth * count);
    for (int c = 0; c < count; c++)
      for (int k = 0; k < depth; k++)
        made[((size_t)(c / 16) * depth + k) * 16 + c % 16] = from[k * wide + first + c] * factor;
    return words(made, pairs, 16);
  }

  FeedForward feedforward(bool pairs) {
    FeedForward f;
    const int dim = s.dim, inner = 4 * dim;
    f.scale = vector(dim);
    f.shift = vector(dim);
    f.expand = interleaved(matrix(dim, dim, 2 * inner, inner), s.width, pairs);
    f.expand_bias = interleaved(matrix(1, 1, 2 * inner, inner), 1, false);
    f.contract = panels(matrix(inner, inner, dim, dim), s.hidden, 0, s.width, pairs);
    f.contract_bias = vector(dim);
    return f;
  }

  // Panels of values, each followed by that of its gates, of the first rows of a padded matrix.
  const float *interleaved(const std::vector<float> &from, int rows, bool pairs) {
    const size_t wide = 2 * (size_t)s.hidden;
    std::vector<float> made((size_t)rows * wide);
    for (size_t c = 0; c < wide; c++) {
      const size_t half = c / s.hidden, inside = c % s.hidden;
      const size_t panel = inside / 16 * 2 + half;
      for (int k = 0; k < rows; k++)
        made[(panel * rows + k) * 16 + inside % 16] = from[k * wide + c];
    }
    return words(made, pairs, 16);
  }

  // Rows of keys, from columns of a padded matrix with `head_width` columns a head.
  const float *key_rows(const std::vector<float> &from, int first, int heads, bool pairs) {
    const size_t wide = from.size() / s.width;
    std::vector<float> made((size_t)heads * s.head_dim * s.width);
    for (int h = 0; h < heads; h++)
      for (int i = 0; i < s.head_dim; i++)
        for (int k = 0; k < s.width; k++)
          made[((size_t)h * s.head_dim + i) * s.width + k] =
              from[k * wide + first + h * s.head_width + i];
    return words(made, pairs, 1);
  }

  Layer layer() {
    Layer l;
    const bool pairs = m.bfloat16;
    const int heads = s.self_heads, all = heads * s.head_dim, wide = heads * s.head_width;
    l.scale = vector(s.dim);
    l.shift = vector(s.dim);
    const auto qkv = matrix(s.dim, s.dim, 3 * all, s.head_dim);
    l.queries = panels(qkv, s.width, 0, wide, pairs, 1 / std::sqrt((float)s.head_dim));
    l.attention.heads = heads;
    l.attention.keys = key_rows(qkv, wide, heads, pairs);
    l.attention.values = panels(qkv, s.width, 2 * wide, wide, pairs);
    l.attention.output = panels(matrix(all, s.head_dim, s.dim, s.dim), wide, 0, s.width, pairs);
    l.attention.output_bias = vector(s.dim);
    l.feedforward = feedforward(pairs);
    return l;
  }

  void read_weights() {
    const int dim = s.dim, K = s.head_dim, heads = s.cross_heads, all = heads * K;
    const int wide = heads * s.head_width;
    m.latents = keep(matrix(s.latents, s.latents, dim, dim));
    m.encoder_output = panels(matrix(all, K, dim, dim), wide, 0, s.width, false);
    m.encoder_output_bias = vector(dim);
    m.encoder_feedforward = feedforward(false);
    for (int i = 0; i < s.depth; i++) m.layers.push_back(layer());
    m.context_scale = vector(dim);
    m.context_shift = vector(dim);
    const auto key_value = matrix(dim, dim, 2 * all, K);
    m.read.heads = heads;
    m.read.keys = key_rows(key_value, 0, heads, false);
    m.read.values = panels(key_value, s.width, wide, wide, false);
    m.session = vector(dim);
    m.query = keep(matrix(1, 1, all, K));
    m.read.output = panels(matrix(all, K, dim, dim), wide, 0, s.width, false);
    m.read.output_bias = vector(dim);
    m.decoder_feedforward = feedforward(false);
    const int channels = s.channels;
    m.head = panels(matrix(dim, dim, channels, channels), s.width, 0, padded(channels), false);
    m.head_bias = vector(s.channels);
    read_tables();
  }

  void read_tables() {
    const int K = s.head_dim, heads = s.cross_heads;
    const auto queries = exactly(heads * s.latents, K);
    float *made = m.zeros((int64_t)heads * s.rows * K);
    for (int h = 0; h < heads; h++)
      for (int l = 0; l < s.latents; l++)
        for (int k = 0; k < K; k++)
          made[((int64_t)h * s.rows + l / 16 * 16) * K + k * 16 + l % 16] =
              queries[((size_t)h * s.latents + l) * K + k];
    m.encoder_queries = made;
    m.unit_keys = keep(exactly(heads * s.units, K));
    m.unit_values = keep(exactly(heads * s.units, K));
    const auto largest = exactly(heads, s.latents), total = exactly(heads, s.latents);
    const auto out = exactly(heads * s.latents, K);
    float *start = m.zeros(m.state_size());
    for (int h = 0; h < heads; h++) {
      float *state = start + (int64_t)h * s.rows * (2 + s.head_width);
      for (int l = 0; l < s.latents; l++) {
        const size_t row = (size_t)h * s.latents + l;
        state[l] = largest[row];
        state[s.rows + l] = total[row];
        memcpy(state + 2 * s.rows + (int64_t)l * s.head_width, &out[row * K], (size_t)K * 4);
      }
    }
    m.start = start;
    read_frequencies();
  }

  void read_frequencies() {
    m.omega = keep(exactly(1, s.pairs));
    const int64_t count = (int64_t)s.rows * s.pairs;
    float *cos = m.zeros(count), *sin = m.zeros(count);
    float *cos_panels = m.zeros(count), *sin_panels = m.zeros(count);
    for (int f = 0; f < s.pairs; f++) {
      m.hertz_.push_back(m.omega[f] / 6.283185307179586);
      for (int l = 0; l < s.latents; l++) {
        const double angle = times_[l] * m.omega[f];
        const int64_t row = (int64_t)l * s.pairs + f;
        const int64_t panel = ((int64_t)(l / 16) * s.pairs + f) * 16 + l % 16;
        cos[row] = cos_panels[panel] = (float)std::cos(angle);
        sin[row] = sin_panels[panel] = (float)std::sin(angle);
      }
    }
    m.hertz = m.hertz_.data();
    m.cos = cos;
    m.sin = sin;
    m.cos_panels = cos_panels;
    m.sin_panels = sin_panels;
  }

  void read_units() {
    std::string id;
    for (; at_ < end_; at_++) {
      if (*at_) {
        id.push_back((char)*at_);
        continue;
      }
      m.unit_ids.push_back(id);
      id.clear();
    }
    require(id.empty() && m.unit_ids.size() == (size_t)s.units,
            "the .poyo file has another number of unit ids than of units: write it again");
  }
};

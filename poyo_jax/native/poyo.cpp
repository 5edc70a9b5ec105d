// The native back end: opens .poyo files and decodes windows. See poyo.h.
#include "poyo.h"

#include "file.h"

#define INLINE static inline __attribute__((always_inline))

// The same computation for every instruction set; the best one is chosen when a file is opened.
#ifdef POYO_LANES_16  // for tests: the vectors of AVX-512 on any machine
#define LANES 16
#define WIDE 2
#define TALL 8
#else
#define LANES 4
#define WIDE 1
#define TALL 6
#endif
#define HAS_BF16 0
namespace portable {
#include "kernels.h"
}
#undef LANES
#undef WIDE
#undef TALL

// Tests under sanitizers compile the portable kernel alone.
#if defined(__x86_64__) && !defined(POYO_PORTABLE)
#define POYO_X86
#include <immintrin.h>

#if defined(__clang__)
#define BEGIN_TARGET(features) \
  _Pragma(STRING(clang attribute push(__attribute__((target(features))), apply_to = function)))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define BEGIN_TARGET(features) \
  _Pragma("GCC push_options") _Pragma(STRING(GCC target(features)))
#define END_TARGET _Pragma("GCC pop_options")
#endif
#define STRING(...) #__VA_ARGS__

BEGIN_TARGET("avx2,fma")
#define LANES 8
#define WIDE 1
#define TALL 6
namespace avx2 {
#include "kernels.h"
}
#undef LANES
#undef WIDE
#undef TALL
END_TARGET

#define LANES 16
#define WIDE 2
#define TALL 8
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
namespace avx512 {
#include "kernels.h"
}
END_TARGET
#undef HAS_BF16
#define HAS_BF16 1
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
namespace avx512bf16 {
#include "kernels.h"
}
END_TARGET
#endif

namespace {

thread_local std::string last_error;

struct Choice {
  const char *name;
  bool here, fast_bf16;
  void (*floats)(Model &, const Job &, int);
  void (*pairs)(Model &, const Job &, int);
};

std::vector<Choice> choices() {
  std::vector<Choice> made;
#ifdef POYO_X86
  __builtin_cpu_init();
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool bf16 = wide && __builtin_cpu_supports("avx512bf16");
  const bool narrow = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  made.push_back({"avx512bf16", bf16, true, avx512bf16::work<float>, avx512bf16::work<uint32_t>});
  made.push_back({"avx512", wide, false, avx512::work<float>, avx512::work<uint32_t>});
  made.push_back({"avx2", narrow, false, avx2::work<float>, avx2::work<uint32_t>});
#endif
  made.push_back({"portable", true, false, portable::work<float>, portable::work<uint32_t>});
  return made;
}

// The best instructions here.
Choice best(bool bfloat16) {
  for (const Choice &choice : choices())
    if (choice.here && (choice.fast_bf16 || !bfloat16)) return choice;
  throw Refused("this CPU does not multiply bfloat16: take float32");
}

// The instructions of a name.
Choice named(const std::string &name) {
  std::string known;
  for (const Choice &choice : choices()) {
    known += (known.empty() ? "" : ", ") + std::string(choice.name);
    if (choice.name != name) continue;
    require(choice.here, "this CPU has no " + name + ": leave `instructions` out");
    return choice;
  }
  throw Refused("instructions are " + name + "; they must be one of " + known);
}

void make_workers(Model &m, int threads) {
  const Sizes &s = m.sizes;
  const int64_t panels = s.rows / 16;
  const auto make = [&](int64_t count) {
    Buffer made;
    made.floats = m.zeros(count);
    if (m.bfloat16) made.words = (uint32_t *)m.zeros(count / 2 + 16);
    return made;
  };
  for (int i = 0; i < threads; i++) {
    Worker w;
    w.first = (int)(panels * i / threads) * 16;
    const int end = (int)(panels * (i + 1) / threads) * 16;
    w.rows = (end < s.latents ? end : s.latents) - w.first;
    const int64_t rows = end - w.first > BLOCK ? end - w.first : BLOCK;
    const int64_t heads = s.self_heads > s.cross_heads ? s.self_heads : s.cross_heads;
    const int64_t scores = SCORED * (int64_t)s.rows, token_scores = TOKENS * rows;
    w.normed = make(rows * s.width);
    w.columns = make(rows * s.width);
    w.head = make(rows * s.head_width);
    w.panel = make(rows * 16);
    w.query = make(rows * s.head_width);
    w.scores = make(scores > token_scores ? scores : token_scores);
    w.joined = make(rows * heads * s.head_width);
    w.pair = make(BLOCK * 32);
    w.hidden = make((int64_t)BLOCK * s.hidden);
    w.keys = make((int64_t)TOKENS * s.head_dim);
    w.value = make(s.head_width);
    w.values = make((int64_t)TOKENS * s.head_width);
    w.cos = make((int64_t)TOKENS * s.pairs);
    w.sin = make((int64_t)TOKENS * s.pairs);
    w.answers = make((int64_t)SCORED * s.width);
    w.outputs = make((int64_t)SCORED * padded(s.channels));
    m.workers.push_back(w);
  }
  m.x = m.zeros((int64_t)s.rows * s.width);
  for (Shared *shared : {&m.shared[0], &m.shared[1], &m.context}) {
    const int64_t heads = shared == &m.context ? s.cross_heads : s.self_heads;
    shared->keys = m.zeros(heads * s.rows * s.head_dim);
    shared->values = m.zeros(heads * s.rows * s.head_width);
  }
  m.team.start(threads, [](void *of, int number) {
    Model &model = *(Model *)of;
    model.work(model, model.job, number);
  }, &m);
}

void check_spikes(const Model &m, int64_t count, const double *times, const int32_t *units) {
  require(count >= 0 && (count == 0 || (times && units)), "the spikes have no times or no units");
  for (int64_t i = 0; i < count; i++) {
    require(times[i] >= -1e-6 && times[i] <= m.window_length + 1e-6,
            "a spike lies outside of the window: give times in s from its start");
    require(units[i] >= 0 && units[i] < m.sizes.units,
            "a spike has a unit that the session does not have: give positions in the unit ids");
  }
}

void check_state(const Model &m, const float *state, int64_t size) {
  require(state && size == m.state_size(), "the state has another size than poyo_describe tells");
}

// Runs `body` and turns what it throws into `failure` and a sentence.
template <class T, class F> T guarded(T failure, F body) {
  try {
    return body();
  } catch (const std::bad_alloc &) {
    last_error = "there is not enough memory for this model";
  } catch (const std::exception &error) {
    last_error = error.what();
  }
  return failure;
}

}  // namespace

struct poyo {
  Model model;
};

extern "C" {

poyo *poyo_open(const uint8_t *bytes, size_t size, int32_t threads, int32_t bfloat16,
                const char *instructions) {
  return guarded<poyo *>(nullptr, [&] {
    require(bytes, "there are no bytes to open");
    require(1 <= threads && threads <= 8, "threads must be 1 to 8");
    auto made = std::make_unique<poyo>();
    Model &m = made->model;
    const Choice choice = instructions ? named(instructions) : best(bfloat16);
    m.bfloat16 = bfloat16;
    m.instructions = choice.name;
    m.work = bfloat16 ? choice.pairs : choice.floats;
    Reader(m, bytes, size).read();
    make_workers(m, threads);
    return made.release();
  });
}

void poyo_close(poyo *model) { delete model; }

void poyo_describe(const poyo *model, poyo_info *info) {
  const Model &m = model->model;
  info->num_units = m.sizes.units;
  info->num_channels = m.sizes.channels;
  info->num_queries = m.sizes.queries;
  info->threads = m.team.size();
  info->state_size = m.state_size();
  info->window_length = m.window_length;
  info->hop = m.hop;
  info->queries = m.queries.data();
  info->instructions = m.instructions.c_str();
  info->bfloat16 = m.bfloat16;
}

const char *poyo_unit(const poyo *model, int32_t unit) {
  const auto &ids = model->model.unit_ids;
  return unit >= 0 && (size_t)unit < ids.size() ? ids[unit].c_str() : nullptr;
}

const char *poyo_error(void) { return last_error.c_str(); }

int32_t poyo_begin(poyo *model, float *state, int64_t state_size) {
  return guarded<int32_t>(1, [&] {
    const Model &m = model->model;
    check_state(m, state, state_size);
    memcpy(state, m.start, (size_t)state_size * 4);
    return 0;
  });
}

int32_t poyo_add(poyo *model, float *state, int64_t state_size, int64_t num_spikes,
                 const double *times, const int32_t *units) {
  return guarded<int32_t>(1, [&] {
    Model &m = model->model;
    check_state(m, state, state_size);
    check_spikes(m, num_spikes, times, units);
    m.job = {state, num_spikes, 0, times, units, nullptr, nullptr};
    m.team.run();
    return 0;
  });
}

int32_t poyo_decode(poyo *model, float *state, int64_t state_size, int64_t num_spikes,
                    const double *times, const int32_t *units, int64_t num_queries,
                    const double *queries, double *values, int64_t num_values) {
  return guarded<int32_t>(1, [&] {
    Model &m = model->model;
    check_state(m, state, state_size);
    check_spikes(m, num_spikes, times, units);
    require(num_queries >= 0 && num_queries <= 1 << 20 && queries && values &&
                num_values == num_queries * m.sizes.channels,
            "the queries and the values that they get do not fit together");
    for (int64_t i = 0; i < num_queries; i++)
      require(queries[i] >= -1e-6 && queries[i] <= m.window_length + 1e-6,
              "a query lies outside of the window: give times in s from its start");
    m.job = {state, num_spikes, num_queries, times, units, queries, values};
    m.team.run();
    return 0;
  });
}

}  // extern "C"

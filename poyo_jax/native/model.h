// The model of a .poyo file in memory: sizes, weights as the products need them, and the workers.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

constexpr int BLOCK = 64;   // rows of a feed-forward block at a time
constexpr int SCORED = 16;  // rows whose scores are kept at a time
constexpr int TOKENS = 64;  // spikes that are added at a time

static inline int padded(int count) { return (count + 15) / 16 * 16; }

struct Sizes {
  int dim, depth, head_dim, cross_heads, self_heads, latents, channels, units, queries;
  int width, hidden, head_width, rows, pairs;  // padded dim, 4 dim, head_dim, latents; head_dim / 4
};

struct FeedForward {
  const float *scale, *shift;
  const void *expand, *contract;  // expand: panels of values, each followed by that of its gates
  const float *expand_bias, *contract_bias;
};

struct Projection {
  int heads;
  const void *keys;            // rows [heads][head_dim][width]
  const void *values;          // panels [heads][head_width / 16]
  const float *output_bias;
  const float *output;         // panels; words in layers
};

struct Layer {
  const float *scale, *shift;
  const void *queries;  // panels [heads][head_width / 16], divided by the root of head_dim
  Projection attention;
  FeedForward feedforward;
};

// Keys and values of all latents, which all workers read.
struct Shared {
  void *keys;    // [heads][rows / 16][head_dim][16]
  void *values;  // [heads][head_width / 16][rows][16]
};

struct Buffer {
  float *floats = nullptr;
  uint32_t *words = nullptr;
  template <class W> W *as();
};
template <> inline float *Buffer::as<float>() { return floats; }
template <> inline uint32_t *Buffer::as<uint32_t>() { return words; }

struct Worker {
  int first, rows;  // its latents
  Buffer normed, columns, head, panel, query, scores, joined, pair, hidden;
  Buffer keys, value, values, cos, sin, answers, outputs;
};

static inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Threads that do the parts of a job, the caller among them. They wait for work without sleeping
// for a moment, then asleep.
class Team {
 public:
  ~Team() {
    {
      std::lock_guard<std::mutex> held(mutex_);
      stopped_ = true;
    }
    wake_.notify_all();
    for (auto &thread : threads_) thread.join();
  }

  void start(int size, void (*part)(void *, int), void *of) {
    size_ = size;
    part_ = part;
    of_ = of;
    for (int i = 1; i < size; i++) threads_.emplace_back([this, i] { serve(i); });
  }

  void run() {
    if (size_ > 1) {
      left_.store(size_ - 1, std::memory_order_relaxed);
      {
        std::lock_guard<std::mutex> held(mutex_);
        job_.fetch_add(1, std::memory_order_release);
      }
      wake_.notify_all();
    }
    part_(of_, 0);
    for (int spins = 0; left_.load(std::memory_order_acquire) > 0; spins++) rest(spins);
  }

  // Waits until all members are here.
  void meet() {
    if (size_ == 1) return;
    const int round = round_.load(std::memory_order_relaxed);
    if (here_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      here_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++) rest(spins);
  }

  int size() const { return size_; }

 private:
  static constexpr int SPINS = 20000;

  static void rest(int spins) {
    if (spins < SPINS)
      pause_briefly();
    else
      std::this_thread::yield();  // more threads than cores
  }

  void serve(int number) {
    for (unsigned seen = 0;; seen++) {
      for (int spins = 0; spins < SPINS && job_.load(std::memory_order_acquire) == seen; spins++)
        pause_briefly();
      if (job_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> held(mutex_);
        wake_.wait(held, [&] { return stopped_ || job_.load(std::memory_order_acquire) != seen; });
        if (stopped_) return;
      }
      part_(of_, number);
      left_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  int size_ = 1;
  void (*part_)(void *, int) = nullptr;
  void *of_ = nullptr;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  std::atomic<unsigned> job_{0};
  std::atomic<int> left_{0}, here_{0}, round_{0};
};

// What all workers do together: add spikes to a state, and decode it if there are `values`.
struct Job {
  float *state;
  int64_t num_spikes, num_queries;
  const double *times;
  const int32_t *units;
  const double *queries;
  double *values;
};

struct Model {
  Sizes sizes;
  double window_length, hop;
  std::vector<double> queries, mean_, deviation_;
  std::vector<std::string> unit_ids;
  std::string instructions;
  bool bfloat16 = false;

  const float *latents, *encoder_output, *encoder_output_bias;
  FeedForward encoder_feedforward, decoder_feedforward;
  std::vector<Layer> layers;
  const float *context_scale, *context_shift;
  Projection read;               // of the decoder
  const float *session, *query;  // its vector, and its query before rotation, scaled
  const float *head, *head_bias;
  const float *encoder_queries;  // panels [cross_heads][rows / 16][head_dim][16], scaled, rotated
  const float *unit_keys, *unit_values;  // [cross_heads][units][head_dim]
  const float *start;                    // state of a window without spikes
  const float *cos, *sin;                // of the latents [rows][pairs]
  const float *cos_panels, *sin_panels;  // [rows / 16][pairs][16]
  const double *mean, *deviation;
  std::vector<double> hertz_;
  const double *hertz;
  const float *omega;

  float *x;
  Shared shared[2], context;
  std::vector<Worker> workers;
  Job job;
  void (*work)(Model &, const Job &, int);

  int64_t state_size() const {
    return (int64_t)sizes.cross_heads * sizes.rows * (2 + sizes.head_width);
  }

  // Zeros that live as long as the model.
  float *zeros(int64_t count) {
    const size_t bytes = ((size_t)count * 4 + 127) / 64 * 64;
    float *made = (float *)aligned_alloc(64, bytes);
    if (!made) throw std::bad_alloc();
    owned_.emplace_back(made);
    memset(made, 0, bytes);
    return made;
  }

 private:
  struct Free {
    void operator()(float *p) const { free(p); }
  };
  std::vector<std::unique_ptr<float, Free>> owned_;

 public:
  Team team;  // last: its threads end before the rest
};

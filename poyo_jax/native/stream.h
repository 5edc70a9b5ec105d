// A stream of spikes, decoded by a model as its time passes.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "poyo.h"

namespace live {

constexpr size_t CAPACITY = 65536;  // spikes

// A whole number from `least` to `most`, or -1.
inline int whole(const char *text, int least, int most) {
  char *end;
  const long value = strtol(text, &end, 10);
  return *text && !*end && value >= least && value <= most ? (int)value : -1;
}

struct Counts {
  long long received = 0, not_finite = 0, unknown = 0, stale = 0, late = 0, overflow = 0;
  long long lines = 0, left_out = 0;
};

// The rules of poyo_jax.realtime: what is kept, what is dropped, and which updates are left out.
class Stream {
 public:
  Stream(poyo *model, double start, bool positions)
      : model_(model), first_(start), by_id_(!positions) {
    poyo_describe(model, &info_);
    state_.resize((size_t)info_.state_size);
    for (int i = 0; i < info_.num_queries; i++)
      queries_.push_back(info_.window_length - info_.queries[i]);
    values_.resize(queries_.size() * (size_t)info_.num_channels);
    for (int unit = 0; unit < info_.num_units; unit++)
      places_.emplace(poyo_unit(model, unit), unit);
  }

  // Takes a spike in; the updates that end before it are decoded first.
  bool take(double time, const char *unit) {
    counts.received += unit ? 1 : 0;
    if (!(std::fabs(time) <= LONGEST)) {  // NaN, too
      counts.not_finite++;
      return true;
    }
    if (last_ - time > LONGEST_GAP) begin_anew(time);
    if (std::isnan(first_)) first_ = std::floor(time / info_.hop) * info_.hop + info_.hop;
    if (time - end() > LONGEST_GAP) {
      fprintf(stderr, "poyo_run: the time jumps from %.6f to %.6f s; no updates between\n", end(),
              time);
      number_ = std::floor((time - first_) / info_.hop);
      prepared_ = false;
    }
    while (time >= end()) {
      if (leave_out()) continue;
      if (!update()) return false;
    }
    if (!unit) return true;
    const int place = find(unit);
    if (place < 0) {
      counts.unknown++;
    } else if (time < last_ - info_.window_length) {
      counts.stale++;
    } else {
      counts.late += time < last_;
      keep(time, place);
    }
    return true;
  }

  Counts counts;
  double newest = -INFINITY;  // s; time that a live source has reached

 private:
  static constexpr double LONGEST = 1e11;  // s, as far as a double tells 0.1 ms apart
  static constexpr double LONGEST_GAP = 10, MOST_OVERDUE = 1;  // s

  double end() const { return first_ + number_ * info_.hop; }

  // The clock of the spikes was set back, or one of their times lay far ahead.
  void begin_anew(double time) {
    fprintf(stderr, "poyo_run: the time goes back from %.6f to %.6f s; all spikes are forgotten\n",
            last_, time);
    times_.clear();
    units_.clear();
    encoded_ = lost_ = 0;
    first_ = std::numeric_limits<double>::quiet_NaN();
    last_ = -INFINITY;
    number_ = 0;
    prepared_ = false;
  }

  // Leaves updates out, if the next one is overdue by too much, so that none lags for long.
  bool leave_out() {
    const double overdue = std::floor((newest - end()) / info_.hop + 1e-6);
    const double seconds = overdue * info_.hop;
    if (!(seconds > MOST_OVERDUE && seconds <= LONGEST_GAP)) return false;
    number_ += overdue;
    counts.left_out += (long long)overdue;
    prepared_ = false;
    return true;
  }

  int find(const char *unit) const {
    if (by_id_) {
      const auto known = places_.find(unit);
      return known == places_.end() ? -1 : known->second;
    }
    return whole(unit, 0, info_.num_units - 1);
  }

  void keep(double time, int unit) {
    if (times_.size() == 2 * CAPACITY) forget(times_.size() - CAPACITY);
    if (times_.size() - lost_ == CAPACITY) {
      counts.overflow++;
      lost_++;
      encoded_ = encoded_ > lost_ ? encoded_ : lost_;
    }
    times_.push_back(time);
    units_.push_back(unit);
  }

  // Removes spikes from the front.
  void forget(size_t count) {
    times_.erase(times_.begin(), times_.begin() + (ptrdiff_t)count);
    units_.erase(units_.begin(), units_.begin() + (ptrdiff_t)count);
    encoded_ -= count < encoded_ ? count : encoded_;
    lost_ -= count < lost_ ? count : lost_;
  }

  // Collects the spikes that the window has not taken in yet.
  void collect() {
    const double start = end() - info_.window_length;
    inside_times_.clear();
    inside_units_.clear();
    for (; encoded_ < times_.size(); encoded_++) {
      const double time = times_[encoded_];
      if (time < start || time >= start + info_.window_length) continue;
      inside_times_.push_back(time - start);
      inside_units_.push_back(units_[encoded_]);
    }
  }

  bool prepare() {
    forget(lost_);
    size_t kept = 0;
    for (size_t i = 0; i < times_.size(); i++) {
      if (times_[i] < last_ - info_.window_length) continue;
      times_[kept] = times_[i];
      units_[kept++] = units_[i];
    }
    times_.resize(kept);
    units_.resize(kept);
    encoded_ = 0;
    prepared_ = true;
    collect();
    const int64_t count = (int64_t)inside_times_.size();
    return succeeded(poyo_begin(model_, state_.data(), info_.state_size)) &&
           succeeded(poyo_add(model_, state_.data(), info_.state_size, count,
                              inside_times_.data(), inside_units_.data()));
  }

  bool update() {
    if (!prepared_ && !prepare()) return false;
    collect();
    const int64_t count = (int64_t)inside_times_.size();
    const int32_t failed =
        poyo_decode(model_, state_.data(), info_.state_size, count, inside_times_.data(),
                    inside_units_.data(), (int64_t)queries_.size(), queries_.data(),
                    values_.data(), (int64_t)values_.size());
    if (!succeeded(failed)) return false;
    printf("%.6f", end());
    for (double value : values_) printf(" %.9g", value);
    printf("\n");
    if (fflush(stdout)) {
      perror("poyo_run: values cannot be written");
      return false;
    }
    last_ = end();
    number_++;
    return prepare();
  }

  static bool succeeded(int32_t failed) {
    if (failed) fprintf(stderr, "poyo_run: %s\n", poyo_error());
    return !failed;
  }

  poyo *model_;
  poyo_info info_;
  std::vector<float> state_;
  std::vector<double> queries_, values_, times_, inside_times_;
  std::vector<int32_t> units_, inside_units_;
  std::unordered_map<std::string, int> places_;
  double first_, number_ = 0;  // s, of the first update; and the number of the next one
  double last_ = -INFINITY;  // s; end of the last window
  bool by_id_;
  size_t encoded_ = 0, lost_ = 0;  // spikes at the front that are in the window, or overwritten
  bool prepared_ = false;
};

}  // namespace live

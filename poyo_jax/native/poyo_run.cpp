// Decodes a stream of spikes with a .poyo file: no Python, no JAX.
//
//   poyo_run monday.poyo [--udp PORT | --zmq ADDRESS | --lsl NAME] [--threads N] [--bfloat16]
//            [--positions] [--start SECONDS]
//
// Reads lines "TIME UNIT" (s, and the id of a unit, or with --positions its place among the ids)
// from standard input, from datagrams to 127.0.0.1, or from the messages of a ZeroMQ publisher, of
// which an empty one ends the program; or samples of an LSL stream, with the clock of LSL. An
// update follows every hop of the file, the first one at --start, as soon as a time from then on
// arrives: "TIME VALUE ..." with a value for each query and channel. A line "TIME" without a unit
// tells the time alone, for moments without spikes. What was dropped is told at the end, on
// standard error.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "brought.h"
#include "poyo.h"

namespace {

constexpr size_t CAPACITY = 65536;  // spikes
constexpr int USAGE = 2, FAILED = 1;

struct Counts {
  long long received = 0, not_finite = 0, unknown = 0, stale = 0, late = 0, overflow = 0, lines = 0;
};

// A whole number from `least` to `most`, or -1.
int whole(const char *text, int least, int most) {
  char *end;
  const long value = strtol(text, &end, 10);
  return *text && !*end && value >= least && value <= most ? (int)value : -1;
}

// The rules of poyo_jax.realtime.Stream: what is kept, what is dropped, and when.
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
    if (std::isnan(first_)) first_ = std::floor(time / info_.hop) * info_.hop + info_.hop;
    if (time - end() > LONGEST_GAP) {
      fprintf(stderr, "poyo_run: the time jumps from %.6f to %.6f s; no updates between\n", end(),
              time);
      number_ = std::floor((time - first_) / info_.hop);
      prepared_ = false;
    }
    while (time >= end())
      if (!update()) return false;
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

 private:
  static constexpr double LONGEST = 1e9, LONGEST_GAP = 10;  // s

  double end() const { return first_ + number_ * info_.hop; }

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
  double last_ = -std::numeric_limits<double>::infinity();
  bool by_id_;
  size_t encoded_ = 0, lost_ = 0;  // spikes at the front that are in the window, or overwritten
  bool prepared_ = false;
};

// A line "TIME UNIT" or "TIME"; false when decoding has to end.
bool take_line(Stream &stream, char *line) {
  char *end;
  const double time = strtod(line, &end);
  const bool number = end != line;
  end += strspn(end, " \t,");
  end[strcspn(end, "\r\n")] = 0;
  for (size_t size = strlen(end); size && strchr(" \t,", end[size - 1]); size--) end[size - 1] = 0;
  if (!number) {
    stream.counts.lines += line[strspn(line, " \t\r\n")] != 0;
    return true;
  }
  return stream.take(time, *end ? end : nullptr);
}

int read_input(Stream &stream) {
  char line[256];
  while (fgets(line, sizeof line, stdin)) {
    if (!strchr(line, '\n') && !feof(stdin)) {  // longer than any spike: skip the rest
      stream.counts.lines++;
      for (int c = 0; c != '\n' && c != EOF;) c = getchar();
      continue;
    }
    if (!take_line(stream, line)) return FAILED;
  }
  return 0;
}

// Takes the lines of a message; false when decoding has to end.
bool take_lines(Stream &stream, char *message) {
  char *rest = message;
  for (char *line; (line = strsep(&rest, "\n"));)
    if (!take_line(stream, line)) return false;
  return true;
}

// Messages hold lines; an empty one ends the program.
int read_zmq(Stream &stream, const char *address) {
  brought::Zmq zmq;
  if (!zmq.open(address)) return FAILED;
  std::vector<char> message(1 << 20);
  for (;;) {
    const int size = zmq.receive(message.data(), message.size() - 1);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return 0;
    if ((size_t)size >= message.size()) {  // cut: its last line may be half
      stream.counts.lines++;
      continue;
    }
    message[(size_t)size] = 0;
    if (!take_lines(stream, message.data())) return FAILED;
  }
}

int read_lsl(Stream &stream, const char *name) {
  brought::Lsl lsl;
  if (!lsl.open(name)) return FAILED;
  double heard = lsl.now();
  for (std::string unit;;) {
    const double time = lsl.receive(unit);
    if (!stream.take(time, unit.empty() ? nullptr : unit.c_str())) return FAILED;
    if (!unit.empty()) heard = lsl.now();
    if (lsl.now() - heard > lsl.SILENCE) {
      fprintf(stderr, "poyo_run: the LSL stream %s has brought no spike for %g s\n", name,
              lsl.SILENCE);
      return FAILED;
    }
  }
}

// Datagrams hold lines; an empty one ends the program.
int read_socket(Stream &stream, int port) {
  const int handle = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (handle < 0 || bind(handle, (sockaddr *)&address, sizeof address)) {
    perror("poyo_run: the port cannot be opened");
    return FAILED;
  }
  fprintf(stderr, "poyo_run: listening on 127.0.0.1:%d\n", port);
  std::vector<char> datagram(65536);
  int result = 0;
  for (;;) {
    const ssize_t size = recv(handle, datagram.data(), datagram.size() - 1, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    datagram[(size_t)size] = 0;
    if (take_lines(stream, datagram.data())) continue;
    result = FAILED;
    break;
  }
  close(handle);
  return result;
}

int usage() {
  fprintf(stderr,
          "usage: poyo_run FILE.poyo [--udp PORT | --zmq ADDRESS | --lsl NAME] [--threads 1..8]"
          " [--bfloat16] [--positions] [--start SECONDS]\n"
          "Reads lines \"TIME UNIT\" and writes lines \"TIME VALUE ...\", one for every hop.\n");
  return USAGE;
}

}  // namespace

int main(int count, char **arguments) {
  const char *path = nullptr, *zmq = nullptr, *lsl = nullptr;
  int port = 0, threads = 1;
  bool bfloat16 = false, positions = false;
  double start = std::numeric_limits<double>::quiet_NaN();
  for (int i = 1; i < count; i++) {
    const std::string option = arguments[i];
    const char *value = i + 1 < count ? arguments[i + 1] : "";
    if (option == "--bfloat16") {
      bfloat16 = true;
    } else if (option == "--positions") {
      positions = true;
    } else if (option == "--udp") {
      port = whole(value, 1, 65535), i++;
    } else if (option == "--zmq" || option == "--lsl") {
      if (!*value) return usage();
      (option == "--zmq" ? zmq : lsl) = value, i++;
    } else if (option == "--threads") {
      threads = whole(value, 1, 8), i++;
    } else if (option == "--start") {
      char *end;
      start = strtod(value, &end), i++;
      if (!*value || *end || !std::isfinite(start)) return usage();
    } else if (!path && option[0] != '-') {
      path = arguments[i];
    } else {
      return usage();
    }
  }
  if (!path || port < 0 || threads < 0 || (port > 0) + !!zmq + !!lsl > 1) return usage();
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  if (!file) {
    fprintf(stderr, "poyo_run: %s cannot be read\n", path);
    return FAILED;
  }
  const uint8_t *bytes = (const uint8_t *)content.data();
  poyo *model = poyo_open(bytes, content.size(), threads, bfloat16, nullptr);
  if (!model) {
    fprintf(stderr, "poyo_run: %s: %s\n", path, poyo_error());
    return FAILED;
  }
  Stream stream(model, start, positions);
  const int result = port  ? read_socket(stream, port)
                     : zmq ? read_zmq(stream, zmq)
                     : lsl ? read_lsl(stream, lsl)
                           : read_input(stream);
  const Counts &c = stream.counts;
  fprintf(stderr,
          "poyo_run: received %lld, not finite %lld, unknown %lld, stale %lld, late %lld, overflow"
          " %lld, not understood %lld lines\n",
          c.received, c.not_finite, c.unknown, c.stale, c.late, c.overflow, c.lines);
  poyo_close(model);
  return result;
}

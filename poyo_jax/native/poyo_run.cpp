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
// tells the time alone, for moments without spikes. Updates that are overdue by more than a second
// are left out, but none of standard input. What was dropped is told at the end, on standard error.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "poyo.h"
#include "sources.h"
#include "stream.h"

namespace {

using live::Stream;
using sources::Got;

constexpr int USAGE = 2, FAILED = 1;
constexpr size_t MOST_WAITING = 4096;  // messages that are received before they are decoded

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

// The last time in a message of lines, s; NaN if its last line begins with none.
double last_time(const std::string &message) {
  const size_t size = message.find_last_not_of("\r\n");
  const size_t before = message.find_last_of('\n', size);
  const char *line = message.c_str() + (before == std::string::npos ? 0 : before + 1);
  char *end;
  const double time = strtod(line, &end);
  return end == line ? NAN : time;
}

// Takes messages of lines until an empty one. All that wait are received before the first is
// decoded, since the last one tells which updates are overdue.
template <typename Source>
int read_messages(Stream &stream, Source &source) {
  std::vector<std::string> waiting;
  std::string message;
  for (;;) {
    Got got = source.receive(message, true);
    while (got == Got::MESSAGE) {
      waiting.push_back(std::move(message));
      if (waiting.size() == MOST_WAITING) break;
      got = source.receive(message, false);
    }
    if (!waiting.empty()) stream.newest = last_time(waiting.back());
    for (std::string &text : waiting)
      if (!take_lines(stream, text.data())) return FAILED;
    waiting.clear();
    if (got == Got::END) return 0;
    if (got == Got::BROKEN) return FAILED;
  }
}

int read_zmq(Stream &stream, const char *address) {
  sources::Zmq zmq;
  return zmq.open(address) ? read_messages(stream, zmq) : FAILED;
}

int read_lsl(Stream &stream, const char *name) {
  sources::Lsl lsl;
  if (!lsl.open(name)) return FAILED;
  double heard = lsl.now();
  for (std::string unit;;) {
    const double time = lsl.receive(unit);
    stream.newest = lsl.now();
    if (!stream.take(time, unit.empty() ? nullptr : unit.c_str())) return FAILED;
    if (!unit.empty()) heard = lsl.now();
    if (lsl.now() - heard > lsl.SILENCE) {
      fprintf(stderr, "poyo_run: the LSL stream %s has brought no spike for %g s\n", name,
              lsl.SILENCE);
      return FAILED;
    }
  }
}

int read_datagrams(Stream &stream, int port) {
  sources::Datagrams datagrams;
  if (!datagrams.open(port)) return FAILED;
  const int result = read_messages(stream, datagrams);
  if (datagrams.lost)
    fprintf(stderr, "poyo_run: %u datagrams were lost before they were read\n", datagrams.lost);
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
      port = live::whole(value, 1, 65535), i++;
    } else if (option == "--zmq" || option == "--lsl") {
      if (!*value) return usage();
      (option == "--zmq" ? zmq : lsl) = value, i++;
    } else if (option == "--threads") {
      threads = live::whole(value, 1, 8), i++;
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
  const int result = port  ? read_datagrams(stream, port)
                     : zmq ? read_zmq(stream, zmq)
                     : lsl ? read_lsl(stream, lsl)
                           : read_input(stream);
  const live::Counts &c = stream.counts;
  fprintf(stderr,
          "poyo_run: received %lld, not finite %lld, unknown %lld, stale %lld, late %lld, overflow"
          " %lld, not understood %lld lines; left out %lld updates\n",
          c.received, c.not_finite, c.unknown, c.stale, c.late, c.overflow, c.lines, c.left_out);
  poyo_close(model);
  return result;
}

// Spikes from ZeroMQ and from the Lab Streaming Layer, whose libraries are opened when they are
// asked for: poyo_run is built and runs without them.
#pragma once
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <string>

namespace brought {

// A function of a library, by its name.
template <typename Function>
bool find(void *library, const char *name, Function &function) {
  function = (Function)dlsym(library, name);
  if (!function) fprintf(stderr, "poyo_run: the library has no function %s\n", name);
  return function != nullptr;
}

inline void *open_library(const char *what, const char *install, const char *const *names) {
  std::string reason;
  for (; *names; names++) {
    if (void *library = dlopen(*names, RTLD_NOW)) return library;
    if (reason.empty()) reason = dlerror();
  }
  fprintf(stderr, "poyo_run: %s is not there (%s). Install %s, or set LD_LIBRARY_PATH.\n", what,
          reason.c_str(), install);
  return nullptr;
}

// A subscriber: messages of lines, of which an empty one ends the program.
class Zmq {
 public:
  bool open(const char *address) {
    static const char *const names[] = {"libzmq.so.5", "libzmq.5.dylib", nullptr};
    void *library = open_library("libzmq", "libzmq (Debian, Ubuntu: libzmq5)", names);
    if (!library) return false;
    void *(*context)();
    void *(*socket)(void *, int);
    int (*option)(void *, int, const void *, size_t);
    int (*connect)(void *, const char *);
    const char *(*words)(int);
    int (*number)();
    if (!find(library, "zmq_ctx_new", context) || !find(library, "zmq_socket", socket) ||
        !find(library, "zmq_setsockopt", option) || !find(library, "zmq_connect", connect) ||
        !find(library, "zmq_strerror", words) || !find(library, "zmq_errno", number) ||
        !find(library, "zmq_recv", receive_))
      return false;
    constexpr int SUBSCRIBER = 2, SUBSCRIBE = 6;
    socket_ = socket(context(), SUBSCRIBER);
    if (!socket_ || option(socket_, SUBSCRIBE, "", 0) || connect(socket_, address)) {
      fprintf(stderr, "poyo_run: %s cannot be connected (%s)\n", address, words(number()));
      return false;
    }
    fprintf(stderr, "poyo_run: listening to %s\n", address);
    return true;
  }

  // Bytes of the next message, which may be more than there is room for; below 0 after a signal.
  int receive(char *message, size_t room) { return receive_(socket_, message, room, 0); }

 private:
  void *socket_ = nullptr;
  int (*receive_)(void *, void *, size_t, int) = nullptr;
};

// A stream of one channel, with a sample for each spike: the id of a unit, or its place.
class Lsl {
 public:
  bool open(const char *name) {
    static const char *const names[] = {"liblsl.so.2", "liblsl.so", "liblsl.dylib", nullptr};
    void *library = open_library("liblsl", "liblsl (github.com/sccn/liblsl)", names);
    if (!library) return false;
    int32_t (*resolve)(void **, uint32_t, const char *, const char *, int32_t, double);
    int32_t (*channels)(void *), (*format)(void *);
    void *(*inlet)(void *, int32_t, int32_t, int32_t);
    void (*begin)(void *, double, int32_t *);
    int32_t (*process)(void *, uint32_t);
    double (*correct)(void *, double, int32_t *);
    if (!find(library, "lsl_resolve_byprop", resolve) ||
        !find(library, "lsl_get_channel_count", channels) ||
        !find(library, "lsl_get_channel_format", format) ||
        !find(library, "lsl_create_inlet", inlet) || !find(library, "lsl_open_stream", begin) ||
        !find(library, "lsl_set_postprocessing", process) ||
        !find(library, "lsl_time_correction", correct) ||
        !find(library, "lsl_local_clock", clock_) ||
        !find(library, "lsl_pull_sample_str", pull_) ||
        !find(library, "lsl_destroy_string", destroy_))
      return false;
    void *info = nullptr;
    if (resolve(&info, 1, "name", name, 1, WAIT) < 1) {
      fprintf(stderr, "poyo_run: there is no LSL stream %s: none has appeared in %g s\n", name, WAIT);
      return false;
    }
    if (channels(info) != 1) {
      fprintf(stderr, "poyo_run: the LSL stream %s has %d channels; it must have one\n", name,
              (int)channels(info));
      return false;
    }
    constexpr int32_t SECONDS = 60, RECOVER = 1;
    constexpr uint32_t CLOCK_OF_THIS_MACHINE = 1;
    int32_t failed = 0;
    inlet_ = inlet(info, SECONDS, 0, RECOVER);
    if (inlet_) process(inlet_, CLOCK_OF_THIS_MACHINE);
    if (inlet_) begin(inlet_, WAIT, &failed);
    if (inlet_ && !failed) correct(inlet_, WAIT, &failed);  // takes half a second, but only once
    if (!inlet_ || failed) {
      fprintf(stderr, "poyo_run: the LSL stream %s has ended while it was opened\n", name);
      return false;
    }
    fprintf(stderr, "poyo_run: listening to the LSL stream %s\n", name);
    return true;
  }

  // Time of the next spike and its unit, or the time of now when none comes within 2 ms.
  double receive(std::string &unit) {
    constexpr double TURN = 0.002;  // s
    char *text = nullptr;
    int32_t failed = 0;
    const double time = pull_(inlet_, &text, 1, TURN, &failed);
    unit.clear();
    if (time == 0 || failed) return clock_();
    if (text) unit = text;
    if (text) destroy_(text);
    return time;
  }

  double now() { return clock_(); }

  static constexpr double WAIT = 10, SILENCE = 10;  // s until a stream is there, and without spikes

 private:
  void *inlet_ = nullptr;
  double (*clock_)() = nullptr;
  double (*pull_)(void *, char **, int32_t, double, int32_t *) = nullptr;
  void (*destroy_)(char *) = nullptr;
};

}  // namespace brought

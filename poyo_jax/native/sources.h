// Spikes from datagrams, from ZeroMQ and from the Lab Streaming Layer. The libraries of these are
// opened when they are asked for: poyo_run is built and runs without them.
#pragma once
#include <arpa/inet.h>
#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace sources {

enum class Got { MESSAGE, NOTHING, END, BROKEN };

// Datagrams to a port of 127.0.0.1: messages of lines, of which an empty one ends the program.
class Datagrams {
 public:
  ~Datagrams() {
    if (handle_ >= 0) close(handle_);
  }

  bool open(int port) {
    handle_ = socket(AF_INET, SOCK_DGRAM, 0);
    const int room = 1 << 23;  // bytes; the system may give less
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (handle_ < 0 || bind(handle_, (sockaddr *)&address, sizeof address)) {
      perror("poyo_run: the port cannot be opened");
      return false;
    }
    setsockopt(handle_, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
#ifdef SO_RXQ_OVFL
    const int on = 1;
    setsockopt(handle_, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
#endif
    fprintf(stderr, "poyo_run: listening on 127.0.0.1:%d\n", port);
    return true;
  }

  Got receive(std::string &message, bool wait) {
    iovec place = {buffer_.data(), buffer_.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof lost)];
    msghdr header = {};
    header.msg_iov = &place;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    ssize_t size;
    do {
      size = recvmsg(handle_, &header, wait ? 0 : MSG_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Got::NOTHING;
    if (size < 0) {
      perror("poyo_run: the port cannot be read");
      return Got::BROKEN;
    }
#ifdef SO_RXQ_OVFL
    for (cmsghdr *part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part))
      if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SO_RXQ_OVFL)
        memcpy(&lost, CMSG_DATA(part), sizeof lost);
#endif
    message.assign(buffer_.data(), (size_t)size);
    return size ? Got::MESSAGE : Got::END;
  }

  uint32_t lost = 0;  // datagrams so far for which the system had no room, where it tells

 private:
  int handle_ = -1;
  std::vector<char> buffer_ = std::vector<char>(65536);
};

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
    if (!find(library, "zmq_ctx_new", context) || !find(library, "zmq_socket", socket) ||
        !find(library, "zmq_setsockopt", option) || !find(library, "zmq_connect", connect) ||
        !find(library, "zmq_strerror", words) || !find(library, "zmq_errno", error_) ||
        !find(library, "zmq_msg_init", begin_) || !find(library, "zmq_msg_recv", receive_) ||
        !find(library, "zmq_msg_data", data_) || !find(library, "zmq_msg_size", size_) ||
        !find(library, "zmq_msg_close", end_))
      return false;
    constexpr int SUBSCRIBER = 2, SUBSCRIBE = 6;
    socket_ = socket(context(), SUBSCRIBER);
    if (!socket_ || option(socket_, SUBSCRIBE, "", 0) || connect(socket_, address)) {
      fprintf(stderr, "poyo_run: %s cannot be connected (%s)\n", address, words(error_()));
      return false;
    }
    fprintf(stderr, "poyo_run: listening to %s\n", address);
    return true;
  }

  Got receive(std::string &message, bool wait) {
    constexpr int DO_NOT_WAIT = 1;
    alignas(8) char part[64];  // a zmq_msg_t
    begin_(part);
    int size;
    do {
      size = receive_(part, socket_, wait ? 0 : DO_NOT_WAIT);
    } while (size < 0 && error_() == EINTR);
    if (size < 0 && error_() == EAGAIN) return Got::NOTHING;
    if (size < 0) {
      fprintf(stderr, "poyo_run: the publisher cannot be heard (error %d)\n", error_());
      return Got::BROKEN;
    }
    message.assign((const char *)data_(part), size_(part));
    end_(part);
    return size ? Got::MESSAGE : Got::END;
  }

 private:
  void *socket_ = nullptr;
  int (*error_)() = nullptr;
  int (*begin_)(void *) = nullptr, (*end_)(void *) = nullptr;
  int (*receive_)(void *, void *, int) = nullptr;
  void *(*data_)(void *) = nullptr;
  size_t (*size_)(void *) = nullptr;
};

// A stream of one channel, with a sample for each spike: the id of a unit, or its place.
class Lsl {
 public:
  bool open(const char *name) {
    static const char *const names[] = {"liblsl.so.2", "liblsl.so", "liblsl.dylib", nullptr};
    void *library = open_library("liblsl", "liblsl (github.com/sccn/liblsl)", names);
    if (!library) return false;
    int32_t (*resolve)(void **, uint32_t, const char *, const char *, int32_t, double);
    int32_t (*channels)(void *);
    double (*rate)(void *);
    void *(*inlet)(void *, int32_t, int32_t, int32_t);
    void (*begin)(void *, double, int32_t *);
    int32_t (*process)(void *, uint32_t);
    double (*correct)(void *, double, int32_t *);
    if (!find(library, "lsl_resolve_byprop", resolve) ||
        !find(library, "lsl_get_channel_count", channels) ||
        !find(library, "lsl_get_nominal_srate", rate) ||
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
    // Of a stream without a rate LSL keeps hundreds of samples, else seconds.
    constexpr int32_t SECONDS = 60, HUNDREDS = 10000, RECOVER = 1;
    constexpr uint32_t CLOCK_OF_THIS_MACHINE = 1;
    int32_t failed = 0;
    inlet_ = inlet(info, rate(info) > 0 ? SECONDS : HUNDREDS, 0, RECOVER);
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

}  // namespace sources

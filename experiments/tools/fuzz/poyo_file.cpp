// Damages a .poyo file in thousands of ways and opens each; sanitizers end the program at a fault.
//
//   poyo_file FILE MUTATIONS SEED
//
// Half of the damaged files get a digest that suits them, so that what is behind it is tried, too.
// Files that can be opened are decoded. Prints how many were refused and how many opened.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

#include "file.h"
#include "poyo.h"

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

constexpr size_t SIZES = 40, SETTINGS = 80;  // where these begin
const uint32_t EXTREMES[] = {0,          1,          2,          7,          8,          16,
                             0x7fffffff, 0x80000000, 0xffffffff, 0x7fc00000, 0x7f800000, 65536,
                             0xff800000, 0x3f800000, 4096,       1000};

void change(Bytes &bytes, Random &random) {
  if (bytes.empty()) bytes.push_back(0);
  const size_t size = bytes.size();
  // Sizes and settings are the first bytes: every other change goes there.
  const size_t reach = random() % 2 && size > 200 ? 200 : size;
  const size_t place = random() % reach;
  switch (random() % 7) {
    case 0: bytes[place] ^= (uint8_t)(1 << random() % 8); break;
    case 1: bytes[place] = (uint8_t)random(); break;
    case 2: bytes.resize(place); break;
    case 3: bytes.insert(bytes.end(), random() % 200, (uint8_t)random()); break;
    case 4: bytes.erase(bytes.begin() + (ptrdiff_t)place); break;
    case 5: {
      const uint32_t value = EXTREMES[random() % (sizeof EXTREMES / 4)];
      if (place / 4 * 4 + 4 <= size) memcpy(&bytes[place / 4 * 4], &value, 4);
      break;
    }
    default: {  // one of the sizes
      const uint32_t value = (uint32_t)(random() % 40);
      const size_t at = SIZES + random() % ((SETTINGS - SIZES) / 4) * 4;
      if (at + 4 <= size) memcpy(&bytes[at], &value, 4);
    }
  }
}

void sign(Bytes &bytes) {
  if (bytes.size() < SIZES) return;
  uint8_t digest[32];
  Sha256::digest(bytes.data() + SIZES, bytes.size() - SIZES, digest);
  memcpy(&bytes[8], digest, 32);
}

bool decodes(const Bytes &bytes, Random &random) {
  const int threads = 1 + (int)(random() % 3), bfloat16 = random() % 2;
  poyo *model = poyo_open(bytes.data(), bytes.size(), threads, bfloat16, "portable");
  if (!model) {
    if (!*poyo_error()) abort();  // refused without a sentence
    return false;
  }
  poyo_info info;
  poyo_describe(model, &info);
  std::vector<float> state((size_t)info.state_size);
  std::vector<double> times, queries(info.queries, info.queries + info.num_queries);
  std::vector<int32_t> units;
  for (int i = 0; i < 70; i++) {
    times.push_back(info.window_length * i / 70);
    units.push_back((int32_t)(random() % (uint64_t)info.num_units));
  }
  std::vector<double> values(queries.size() * (size_t)info.num_channels);
  if (poyo_begin(model, state.data(), info.state_size) ||
      poyo_add(model, state.data(), info.state_size, 3, times.data(), units.data()) ||
      poyo_decode(model, state.data(), info.state_size, 70, times.data(), units.data(),
                  (int64_t)queries.size(), queries.data(), values.data(), (int64_t)values.size()))
    abort();
  // Wrong arguments are refused.
  units[5] = info.num_units;
  times[9] = -1;
  if (!poyo_add(model, state.data(), info.state_size, 6, times.data(), units.data())) abort();
  units[5] = -1;
  if (!poyo_add(model, state.data(), info.state_size, 6, times.data(), units.data())) abort();
  units[5] = 0;
  if (!poyo_add(model, state.data(), info.state_size, 10, times.data(), units.data())) abort();
  if (!poyo_begin(model, state.data(), info.state_size - 1)) abort();
  poyo_close(model);
  return true;
}

}  // namespace

int main(int count, char **arguments) {
  if (count != 4) return 2;
  std::ifstream file(arguments[1], std::ios::binary);
  const Bytes sound{std::istreambuf_iterator<char>(file), {}};
  const long mutations = atol(arguments[2]);
  const unsigned long long seed = strtoull(arguments[3], nullptr, 10);
  Random first(seed);
  if (!decodes(sound, first)) {
    fprintf(stderr, "the sound file is refused: %s\n", poyo_error());
    return 1;
  }
  long refused = 0;
  for (long number = 0; number < mutations; number++) {
    Random random(seed * 1000003ull + (unsigned long long)number);
    Bytes bytes = sound;
    for (uint64_t changes = 1 + random() % 3; changes > 0; changes--) change(bytes, random);
    if (random() % 2) sign(bytes);
    refused += !decodes(bytes, random);
  }
  printf("%ld refused, %ld opened\n", refused, mutations - refused);
  return 0;
}

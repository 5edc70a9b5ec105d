// Decode windows of one session with POYO: a C interface without exceptions.
//
// A window is decoded in parts: poyo_begin, any number of poyo_add, and poyo_decode. What it has
// gathered so far is an array of poyo_info.state_size floats that the caller owns, so it may be
// copied and kept. One handle serves one caller at a time.
//
// Functions return 0, or another number when an argument is wrong; poyo_error tells what.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct poyo poyo;

typedef struct {
  int32_t num_units, num_channels, num_queries, threads;
  int64_t state_size;             // floats
  double window_length, hop;      // s
  const double *queries;          // [num_queries]: s before an update
  const char *instructions;       // that are used: "avx512", "avx2", "portable"
  int32_t bfloat16;               // whether products of layers are of bfloat16
} poyo_info;

// Opens the bytes of a .poyo file, which are copied. `instructions` names those to use, NULL takes
// the best; `bfloat16` asks for products of bfloat16. Returns NULL when the file is damaged or a
// setting cannot be had.
poyo *poyo_open(const uint8_t *bytes, size_t size, int32_t threads, int32_t bfloat16,
                const char *instructions);
void poyo_close(poyo *model);
void poyo_describe(const poyo *model, poyo_info *info);
const char *poyo_unit(const poyo *model, int32_t unit);  // its id; NULL when there is none
const char *poyo_error(void);                            // of this thread's last failure

int32_t poyo_begin(poyo *model, float *state, int64_t state_size);
// Times are in s from the start of the window; units are positions among the units.
int32_t poyo_add(poyo *model, float *state, int64_t state_size, int64_t num_spikes,
                 const double *times, const int32_t *units);
// Adds spikes, and decodes: values [num_queries][num_channels] in the units of the session.
int32_t poyo_decode(poyo *model, float *state, int64_t state_size, int64_t num_spikes,
                    const double *times, const int32_t *units, int64_t num_queries,
                    const double *queries, double *values, int64_t num_values);

#ifdef __cplusplus
}
#endif

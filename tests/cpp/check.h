// CHECK(condition): on failure, prints the condition and its position, and sets the exit code to 1.
#pragma once

#include <cstdio>

inline int failures = 0;

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      ++failures;                                                                                  \
      std::printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
    }                                                                                              \
  } while (0)

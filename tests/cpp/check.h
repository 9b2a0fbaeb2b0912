// CHECK(condition): says what failed and where, and makes the test's exit code 1.
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

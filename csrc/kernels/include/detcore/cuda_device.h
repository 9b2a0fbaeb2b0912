// Device functions for a host program without the CUDA headers.
#pragma once

#include "detcore/core.h"

namespace detcore {

// Tells whether CUDA can be used on this machine; if not, the error is the driver's message.
Status cuda_status();

// The compute capabilities that this library has code for, e.g. "7.5 8.0 12.0+PTX".
const char* cuda_targets();

// The version of the CUDA compiler, major * 1000 + minor * 10.
int cuda_compiler_version();

// Copies from device memory and waits for the stream.
Status copy_to_host(void* to, const void* from, size_t bytes, Stream);

}  // namespace detcore

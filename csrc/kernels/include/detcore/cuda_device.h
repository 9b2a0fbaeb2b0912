// What a host program without the CUDA headers needs of the device.
#pragma once

#include "detcore/core.h"

namespace detcore {

// Whether CUDA work can be done here; if not, the driver's own words.
Status cuda_status();

// Compute capabilities this library holds code for, e.g. "7.5 8.0 12.0+PTX".
const char* cuda_targets();

// The version of the CUDA compiler, major * 1000 + minor * 10.
int cuda_compiler_version();

// Copies from device memory and waits for the stream.
Status copy_to_host(void* to, const void* from, size_t bytes, Stream);

}  // namespace detcore

# 64-bit ARM, compiled on another machine by Debian's g++-aarch64-linux-gnu and run there by qemu-user:
#   cmake -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DDETCORE_TESTS=ON -DDETCORE_CUDA=0 ...
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# ctest calls the tests through it; -L: where the machine's own C and C++ libraries are
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

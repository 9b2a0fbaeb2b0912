# Cross-compiles for 64-bit ARM with Debian's g++-aarch64-linux-gnu; qemu-user runs the tests:
#   cmake -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DDETCORE_TESTS=ON -DDETCORE_CUDA=0 ...
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# ctest runs the tests through qemu. -L is the folder of the ARM system's C and C++ libraries.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

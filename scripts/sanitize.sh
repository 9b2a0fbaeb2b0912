#!/bin/sh
# Runs the CPU kernels and the bindings under sanitizers: a read or write out of bounds, undefined
# arithmetic or a race ends the run with a report. `make test-sanitize` calls it. Everything is built
# in build/sanitize, and kept.
#   MINUTES  how long the ops are fuzzed under ASan and UBSan, after their tests (default 2)
set -eu
cd "$(dirname "$0")/.."
python=${PY:-$PWD/.venv/bin/python}
minutes=${MINUTES:-2}
memory=address,undefined,float-cast-overflow

# the threads' test forks, as a data loader's worker does, and begins new threads in the child
export TSAN_OPTIONS=die_after_fork=0

build() { # NAME, SANITIZERS, further options of CMake
    name=$1 sanitizers=$2
    shift 2
    echo "--- building the kernel library and its tests with -fsanitize=$sanitizers"
    cmake -S . -B "build/sanitize/$name" -G Ninja -DDETCORE_SANITIZE="$sanitizers" -DDETCORE_CUDA=0 \
        -DDETCORE_TESTS=ON "$@" >/dev/null
    cmake --build "build/sanitize/$name"
    # with a sanitizer in it, the test of AVX-512's lanes uses them before it asks for them
    grep -q avx512f /proc/cpuinfo && skip='^$' || skip=test_lanes_avx512
    ctest --test-dir "build/sanitize/$name" --output-on-failure --no-tests=error -E "$skip"
}

build thread thread
build memory "$memory" -DDETCORE_PYTHON=ON -DPython_EXECUTABLE="$python" \
    -DDETCORE_PYTHON_SITE="$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")"

# a package of its own, so that the module that is built here stays what it is
package=build/sanitize/package
rm -rf $package && mkdir -p $package
cp -r detcore tests pyproject.toml $package
rm -f $package/detcore/_C*.so
cp build/sanitize/memory/_C*.so $package/detcore
cd $package
# Python is not built with the sanitizer, which must be loaded first. The interpreter's own leaks are
# not reported. The test of memory that is not there is left out: the sanitizer prints a warning.
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0 PYTHONDONTWRITEBYTECODE=1
echo "--- the ops' tests on that module, and $minutes minutes of their fuzz"
"$python" -m pytest -q -p no:cacheprovider -m "not slow and not simt" tests/ops \
    -k "(reference or errors or named or past_the_end or route or odd) and not memory_that_is_not"
"$python" -m tests.fuzz --only ops --minutes "$minutes"

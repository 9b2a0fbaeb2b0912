// The functions of the simulator module, in addition to the kernels.
#include "../../csrc/bindings/binding.h"

namespace detcore {
namespace {

py::dict counters() {
  const simt::Counters& c = simt::counters();
  py::dict out;
  out["launches"] = c.launches, out["blocks"] = c.blocks, out["barriers"] = c.barriers;
  out["global_loads"] = c.global_loads, out["global_stores"] = c.global_stores;
  out["load_sectors"] = c.load_sectors, out["store_sectors"] = c.store_sectors;
  out["load_bytes"] = c.load_bytes, out["store_bytes"] = c.store_bytes;
  out["shared_accesses"] = c.shared_accesses, out["bank_conflicts"] = c.bank_conflicts;
  out["int_atomics"] = c.int_atomics, out["float_atomics"] = c.float_atomics;
  out["steps"] = c.steps, out["step_lanes"] = c.step_lanes, out["narrow_steps"] = c.narrow_steps;
  return out;
}

const Registration simt_entries([](py::module_& m) {
  m.def("reset_counters", [] { simt::count(true); }, "Counts from zero, until stop_counters().");
  m.def("stop_counters", [] { simt::count(false); });
  m.def("counters", &counters, "What kernels did on this thread since reset_counters().");
  m.def("set_seed", &simt::set_seed, py::arg("seed"),
        "The order of threads, and from 2 on of blocks; DETCORE_SIMT_SEED at first.");
  m.def("set_most_blocks", &simt::set_most_blocks, py::arg("blocks"),
        "Cuts grids to so many blocks, so that kernels stride over the rest; 0: does not.");
});

}  // namespace
}  // namespace detcore

// The module's own symbols, for the messages of faults and the sizes of static shared variables.
// They are read from its file, because hidden names are in no loaded table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {

// The module's memory: its thread-local block on the calling thread, which contains the
// `__shared__` variables, and the range of all other loaded memory.
struct Module {
  uintptr_t bias = 0, begin = 0, end = 0;
  uintptr_t statics_begin = 0, statics_end = 0;
};
const Module& this_module();  // for the calling thread

// The thread-local variable that contains an address. The index is -1 if there is none, or if the
// module has no symbols.
struct Variable {
  int index = -1;
  uintptr_t begin = 0, end = 0;
};
Variable static_variable(uintptr_t address);
std::string name_of(const Variable&);  // without its function
size_t static_variables();

std::string function_name(const void* function);  // without its arguments
std::string code_place(const void* pc);           // for addr2line

}  // namespace simt

// The module's own symbols, for the words of a fault and the sizes of static shared variables. They
// are read from its file, since a hidden name is in no table that is loaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {

// This module in memory: its thread-local block on the calling thread, which holds what
// `__shared__` declares, and the range of everything else it loaded.
struct Module {
  uintptr_t bias = 0, begin = 0, end = 0;
  uintptr_t statics_begin = 0, statics_end = 0;
};
const Module& this_module();  // of the calling thread

// The thread-local variable that an address lies in; index -1: there is none, or the module was
// stripped of its symbols.
struct Variable {
  int index = -1;
  uintptr_t begin = 0, end = 0;
};
Variable static_variable(uintptr_t address);
std::string name_of(const Variable&);  // without the function it belongs to
size_t static_variables();

std::string function_name(const void* function);  // without its arguments
std::string code_place(const void* pc);           // for addr2line

}  // namespace simt

"""Makes stub libraries with which a module links as on an old system (glibc and libstdc++).

A module linked to this machine's libraries requires their newest symbol versions, and so a system
as new as this one. If it is linked to these stubs, it requires the newest versions that the old
system has too:

    python cmake/old_libraries.py --compiler g++ --out FOLDER

Then pass `-L FOLDER` before the linker's own folders. The stubs contain names and versions but no
code; at run time the system's real libraries are found by the same names. Functions that the old
libstdc++ lacks are taken from the compiler's libstdc++.a, as in Red Hat's toolsets for old systems.
Everything that must exist once per process (exceptions, type names, locales) stays in the shared
library.
"""

import argparse
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

# manylinux_2_28, the oldest system that torch's own wheels support
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11)}

# glibc 2.34 moved the functions of these libraries into libc
MOVED = {
    r"_?_?pthread_|sem_": "libpthread.so.0",
    r"dl": "libdl.so.2",
    r"shm_|mq_|timer_|aio_|lio_": "librt.so.1",
}

# A symbol without an older version. Without it, shared_ptr always counts atomically.
STAND_INS = ".data\n.globl __libc_single_threaded\n.hidden __libc_single_threaded\n"
STAND_INS += "__libc_single_threaded: .byte 0\n"

# without this section, a linker assumes that the code needs an executable stack
NO_STACK_CODE = '.section .note.GNU-stack,"",%progbits\n'


class Symbol(NamedTuple):
    name: str
    version: str
    kind: str  # FUNC, OBJECT, ...
    size: int


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.partition("_")[2].split("."))


def offered(library: Path) -> list[list[Symbol]]:
    """The symbols that a shared library defines, grouped by name."""
    listing = subprocess.run(
        ["readelf", "--dyn-syms", "--wide", library], check=True, capture_output=True, text=True
    ).stdout
    by_name: dict[str, list[Symbol]] = defaultdict(list)
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) < 8 or fields[6] in ("UND", "ABS") or "@" not in fields[7]:
            continue
        name, version = re.split("@@?", fields[7])
        if re.fullmatch(r"(GLIBC|GLIBCXX|CXXABI)_[0-9.]+", version):
            by_name[name].append(Symbol(name, version, fields[3], int(fields[2], 0)))
    return list(by_name.values())


def old_version(versions: list[Symbol]) -> Symbol | None:
    """The newest version that the old system has."""
    old = [s for s in versions if numbers(s.version) <= NEWEST[s.version.partition("_")[0]]]
    return max(old, key=lambda s: numbers(s.version), default=None)


def home(symbol: Symbol, versions: list[Symbol], library: str) -> str:
    """The library that contains the symbol on the old system."""
    if library == "libc.so.6" and any(numbers(s.version) > NEWEST["GLIBC"] for s in versions):
        for names, older in MOVED.items():
            if re.match(names, symbol.name):
                return older
    return library


def assembly(symbols: list[Symbol]) -> str:
    lines = []
    for s in symbols:
        section = {"OBJECT": ".data", "TLS": '.section .tbss,"awT",%nobits'}.get(s.kind, ".text")
        kind = {"OBJECT": "%object", "TLS": "%tls_object"}.get(s.kind, "%function")
        lines += [section, f".globl {s.name}", f".type {s.name}, {kind}"]
        lines += [f".size {s.name}, {s.size}", f"{s.name}: .zero {s.size}"]
    return "\n".join(lines) + "\n"


def version_script(symbols: list[Symbol]) -> str:
    names: dict[str, list[str]] = defaultdict(list)
    for s in symbols:
        names[s.version].append(s.name)
    return "".join(f"{v} {{ global: {'; '.join(n)}; }};\n" for v, n in sorted(names.items()))


class Builder:
    def __init__(self, compiler: str, out: Path) -> None:
        self.compiler, self.out = compiler, out
        out.mkdir(parents=True, exist_ok=True)

    def file_of_compiler(self, name: str) -> Path:
        answer = subprocess.run(
            [self.compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        if not Path(answer).is_absolute():
            raise SystemExit(f"detcore: {self.compiler} knows of no {name}")
        return Path(answer).resolve()

    def loader(self) -> str:
        """The name of the dynamic loader, which depends on the processor; libc needs it."""
        libc = self.file_of_compiler("libc.so.6")
        listing = subprocess.run(
            ["readelf", "--dynamic", libc], check=True, capture_output=True, text=True
        ).stdout
        return re.search(r"NEEDED.*\[(ld-.*)\]", listing)[1]

    def library(self, soname: str, symbols: list[Symbol]) -> Path:
        source, script = self.out / f"{soname}.s", self.out / f"{soname}.map"
        source.write_text(assembly(symbols) + NO_STACK_CODE)
        script.write_text(version_script(symbols))
        path = self.out / soname
        command = [self.compiler, "-shared", "-nostdlib", f"-Wl,-soname,{soname}"]
        command += [f"-Wl,--version-script,{script}", str(source), "-o", str(path)]
        subprocess.run(command, check=True)
        return path

    def stand_ins(self) -> Path:
        source, path = self.out / "stand_ins.s", self.out / "stand_ins.o"
        source.write_text(STAND_INS + NO_STACK_CODE)
        subprocess.run([self.compiler, "-c", source, "-o", path], check=True)
        return path

    def found_as(self, name: str, *files: Path) -> None:
        """Write the linker script that `-lNAME` finds."""
        (self.out / f"lib{name}.so").write_text(f"GROUP ( {' '.join(map(str, files))} )\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    builder = Builder(options.compiler, options.out.resolve())

    loader = builder.loader()
    homes: dict[str, list[Symbol]] = {soname: [] for soname in MOVED.values()}
    for library in ("libc.so.6", loader, "libm.so.6", "libstdc++.so.6"):
        homes[library] = []
        for versions in offered(builder.file_of_compiler(library)):
            if symbol := old_version(versions):
                homes[home(symbol, versions, library)].append(symbol)
    built = {soname: builder.library(soname, symbols) for soname, symbols in homes.items()}

    moved = [built[soname] for soname in MOVED.values()]
    nonshared = builder.file_of_compiler("libc_nonshared.a")
    builder.found_as("c", built["libc.so.6"], built[loader], *moved, nonshared, builder.stand_ins())
    builder.found_as("m", built["libm.so.6"])
    builder.found_as("stdc++", built["libstdc++.so.6"], builder.file_of_compiler("libstdc++.a"))
    for name, path in zip(("pthread", "dl", "rt"), moved, strict=True):
        builder.found_as(name, path)


if __name__ == "__main__":
    main()

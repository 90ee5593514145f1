#!/usr/bin/env python3
"""emcc and em++ under names that meson takes for an ordinary compiler, for modules of the runtime.

Installed four times: ``whole-cc`` and ``whole-c++`` keep every symbol of a module (NumPy's modules
share some), ``small-cc`` and ``small-c++`` keep what the module's initialisation needs.
"""

import os
import sys
from itertools import pairwise

# What meson adds for Linux and the linker of WebAssembly does not know.
FOREIGN = {
    "-Wl,--start-group",
    "-Wl,--end-group",
    "-Wl,--as-needed",
    "-Wl,--allow-shlib-undefined",
    "-Wl,--no-undefined",
    "-Wl,-O1",
    "-pthread",
    "-lpthread",
    "-ldl",
    "-lm",
    "-lstdc++",
    "-shared",
}
FOREIGN_BEGINNINGS = ("-Wl,-soname", "-Wl,-rpath", "-Wl,--rsp", "-L/usr/lib")
#: Exceptions and long jumps as the runtime was built with.
COMMON = [
    "-fPIC",
    "-g0",
    "-fwasm-exceptions",
    "-sSUPPORT_LONGJMP=wasm",
    "-Wno-unused-command-line-argument",
]


def main() -> None:
    """Replace this process by the compiler's."""
    style, _, language = os.path.basename(sys.argv[0]).partition("-")
    arguments = sys.argv[1:]
    output = next((b for a, b in pairwise(arguments) if a == "-o"), "")
    linking = "-shared" in arguments or output.endswith(".so")
    small = style == "small"
    foreign = FOREIGN | ({"-O0", "-O1", "-O2", "-O3", "-g"} if small else set())
    beginnings = FOREIGN_BEGINNINGS + (("-Wl,--version-script", "-flto") if small else ())
    kept = [a for a in arguments if a not in foreign and not a.startswith(beginnings)]
    common = [*COMMON, *(["-Os", "-fvisibility=hidden"] if small else ["-O2"])]
    if not linking:
        kept = common + kept
    elif small:
        module = os.path.basename(output).split(".")[0]
        exported = f"-sEXPORTED_FUNCTIONS=_PyInit_{module}"
        kept += ["-Wl,--no-export-dynamic", "-sSIDE_MODULE=2", "-sWASM_BIGINT", exported, *common]
    else:
        kept += ["-sSIDE_MODULE=1", "-sWASM_BIGINT", *common]
    tool = {"cc": "emcc", "c++": "em++"}[language]
    os.execvp(tool, [tool, *kept])


main()

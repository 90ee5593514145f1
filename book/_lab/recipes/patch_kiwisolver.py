"""Give four functions of kiwisolver 1.5.1 the return type that Python expects of them.

Its ``tp_clear`` functions return nothing. WebAssembly checks signatures, so the first garbage
collection that meets one of its objects ends the program (nucleic/kiwi, pull request 245).
"""

import re
import sys
from pathlib import Path

CLEAR = re.compile(r"void(\s+\w+_clear\(\s*\w+\s*\*\s*self\s*\)\s*\{\s*Py_CLEAR\([^;]*;\s*)\}")

changed = 0
for path in Path(sys.argv[1], "py", "src").glob("*.cpp"):
    source, count = CLEAR.subn(r"int\1    return 0;\n}", path.read_text(encoding="utf-8"))
    path.write_text(source, encoding="utf-8")
    changed += count
assert changed == 4, changed

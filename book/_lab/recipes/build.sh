#!/bin/sh
# Builds the wheels for the reader's page, in a Debian that holds emscripten 6.0.5 and Python 3.14:
#
#   debootstrap --variant=minbase --include=ca-certificates forky /srv/forky
#   chroot /srv/forky apt-get install --no-install-recommends emscripten python3.14-dev \
#     python3.14-venv ninja-build nodejs make gcc g++ xz-utils patch
#
# Its list of archives needs a line for sources (deb-src). Then, inside it, with a copy of this folder and
# Pyodide's python_stdlib.zip in the copy:
#
#   sh build.sh /srv/build              all steps, about ten minutes
#   sh build.sh /srv/build compile pack some of them
#
# The steps: tools fetch unpack compile pack. The wheels are in /srv/build/wheels.
set -e
HERE=$(cd "$(dirname "$0")" && pwd)
WORK=$1
shift
STEPS=${*:-tools fetch unpack compile pack}
TOOLS=$WORK/tools
PATH=$WORK/bin:$TOOLS/bin:$PATH
EM_CACHE=${EM_CACHE:-$HOME/.emcache}
SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MATPLOTLIB=3.11.2
export PATH EM_CACHE SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MATPLOTLIB
MATPLOTLIB=$WORK/matplotlib-3.11.2

# A virtual environment with what builds; the compilers; a Python that speaks for the runtime.
tools() {
  mkdir -p "$WORK/bin" "$WORK/sysconfig" "$WORK/downloads" "$WORK/pure"
  python3.14 -m venv "$TOOLS"
  pip install --quiet meson meson-python ninja cython==3.3.1 pybind11 setuptools setuptools_scm cppy pkgconfig
  for name in whole-cc whole-c++ small-cc small-c++; do
    cp "$HERE/compiler.py" "$WORK/bin/$name"
    chmod +x "$WORK/bin/$name"
  done
  python3.14 -m zipfile -e "$HERE/python_stdlib.zip" "$WORK/stdlib"
  cp "$WORK"/stdlib/_sysconfigdata__emscripten_wasm32-emscripten.py "$WORK/sysconfig/"
  cp "$HERE/pyconfig.h" /usr/include/python3.14/pyconfig.h
  cat > "$WORK/bin/wasm-python" <<END
#!/bin/sh
# Python 3.14 that answers questions about its configuration as the runtime would
export _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__emscripten_wasm32-emscripten
export PYTHONPATH=$WORK/sysconfig _PYTHON_HOST_PLATFORM=emscripten-wasm32
exec $TOOLS/bin/python3.14 "\$@"
END
  chmod +x "$WORK/bin/wasm-python"
  for style in whole small; do
    cat > "$WORK/bin/$style.ini" <<END
[binaries]
c = '$WORK/bin/$style-cc'
cpp = '$WORK/bin/$style-c++'
ar = 'emar'
ranlib = 'emranlib'
python = '$WORK/bin/wasm-python'
cython = '$TOOLS/bin/cython'
pybind11-config = '$TOOLS/bin/pybind11-config'
exe_wrapper = 'node'
[properties]
needs_exe_wrapper = true
skip_sanity_check = true
longdouble_format = 'IEEE_QUAD_LE'
devnull = '/dev/null'
[host_machine]
system = 'emscripten'
cpu_family = 'wasm32'
cpu = 'wasm'
endian = 'little'
END
  done
}

# Sources: PyPI's, and Debian's of the libraries that matplotlib's build would download.
fetch() {
  cd "$WORK/downloads"
  mkdir -p trees
  # pip builds an sdist to read its metadata, which fails off line for matplotlib: its unpacked tree is kept
  for package in numpy==2.4.6 matplotlib==3.11.2 contourpy==1.4.0 kiwisolver==1.5.1 uharfbuzz==0.54.0; do
    TMPDIR=$WORK/downloads/trees pip download --quiet --no-clean --no-deps --no-build-isolation \
      --no-binary=:all: "$package" || true
  done
  pip download --quiet --no-deps --only-binary=:all: -d wheels \
    cycler==0.12.1 python-dateutil==4.0.0 packaging==26.3 pyparsing==3.3.3 fonttools==4.68.0
  apt-get source --download-only freetype=2.14.3+dfsg-3 qhull=2020.2-9 raqm=0.10.5-1 sheenbidi=3.0.0-1 ||
    ls ./*.orig.tar.* # the upstream archives are all that is used
}

# tree NAME VERSION: the folder into which pip has unpacked an sdist
tree() {
  rm -rf "${WORK:?}/$1-$2"
  if [ -e "$WORK/downloads/$1-$2.tar.gz" ]; then
    tar xf "$WORK/downloads/$1-$2.tar.gz" -C "$WORK"
  else
    cp -a "$WORK"/downloads/trees/pip-download-*/"$1"_* "$WORK/$1-$2"
    rm -rf "$WORK/$1-$2"/.mesonpy-*
  fi
}

# into ARCHIVE FOLDER [DEPTH [MEMBER]]: unpacks without the leading folders
into() {
  mkdir -p "$2"
  tar xf "$1" -C "$2" --strip-components="${3:-1}" ${4:+"$4"}
}

unpack() {
  tree numpy 2.4.6
  tree matplotlib 3.11.2
  tree contourpy 1.4.0
  tree kiwisolver 1.5.1
  python3.14 "$HERE/patch_kiwisolver.py" "$WORK/kiwisolver-1.5.1"
  parts=$MATPLOTLIB/subprojects
  rm -rf "$parts/packagecache"
  into "$WORK/downloads/freetype_2.14.3+dfsg.orig.tar.xz" "$parts/freetype-2.14.3"
  into "$WORK/downloads/qhull_2020.2.orig.tar.gz" "$parts/qhull-8.0.2"
  into "$WORK/downloads/raqm_0.10.5.orig.tar.xz" "$parts/libraqm-0.10.5"
  into "$WORK/downloads/sheenbidi_3.0.0.orig.tar.xz" "$parts/SheenBidi-3.0.0"
  into "$WORK/downloads/uharfbuzz-0.54.0.tar.gz" "$parts/harfbuzz-14.2.0" 2 uharfbuzz-0.54.0/harfbuzz
  cp "$HERE"/harfbuzz/* "$parts/harfbuzz-14.2.0/"
  for name in freetype-2.14.1-static-harfbuzz freetype-2.14.1-wasm-visibility; do
    patch -s -p1 -d "$parts/freetype-2.14.3" < "$parts/packagefiles/$name.patch"
  done
  patch -s -p1 -d "$parts/libraqm-0.10.5" < "$parts/packagefiles/libraqm-0.10.2-bundle-freetype.patch"
  patch -s -p1 -d "$parts/qhull-8.0.2" < "$parts/packagefiles/qhull-143.patch"
  cp "$parts/packagefiles/qhull-8.0.2/meson.build" "$parts/qhull-8.0.2/"
  sed -i 's/^directory = .*/directory = harfbuzz-14.2.0/; /^diff_files/d' "$parts/harfbuzz.wrap"
  # FreeType stays inside the one module that uses it
  sed -i 's/visibility( "default" )/visibility( "hidden" )/' \
    "$parts/freetype-2.14.3/include/freetype/config/public-macros.h"
  # no Tk in a browser
  python3.14 - "$MATPLOTLIB/src/meson.build" <<'END'
import re, sys
from pathlib import Path
path = Path(sys.argv[1])
text, count = re.subn(r"  '_tkagg': \{.*?\n  \},\n", "", path.read_text(), flags=re.DOTALL)
assert count == 1
path.write_text(text)
END
  rm -rf "$WORK/pure"
  mkdir "$WORK/pure"
  for wheel in "$WORK"/downloads/wheels/*.whl; do python3.14 -m zipfile -e "$wheel" "$WORK/pure"; done
}

# configure MESON NAME SOURCE STYLE OPTION...: sets up a build, builds and installs it
configured_build() {
  meson=$1 name=$2 source=$3 style=$4
  shift 4
  rm -rf "$WORK/build-$name" "$WORK/installed/$name"
  cd "$source"
  $meson setup "$WORK/build-$name" --cross-file "$WORK/bin/$style.ini" --buildtype=plain \
    --prefix=/p --python.install-env=prefix "$@"
  ninja -C "$WORK/build-$name" -j1
  $meson install -C "$WORK/build-$name" --no-rebuild --destdir "$WORK/installed/$name" \
    --tags runtime,python-runtime,data --skip-subprojects > /dev/null
}

compile() {
  mkdir -p "$WORK/installed"
  configured_build "python3.14 $WORK/numpy-2.4.6/vendored-meson/meson/meson.py" numpy \
    "$WORK/numpy-2.4.6" whole -Dallow-noblas=true -Dblas=none -Dlapack=none
  configured_build meson matplotlib "$MATPLOTLIB" small -Db_lto=false --wrap-mode=nodownload
  configured_build meson contourpy "$WORK/contourpy-1.4.0" small -Dwerror=false
  compile_kiwisolver
}

compile_kiwisolver() {
  rm -rf "$WORK/build-kiwisolver" "$WORK/installed/kiwisolver"
  mkdir -p "$WORK/build-kiwisolver" "$WORK/installed/kiwisolver/kiwisolver"
  cd "$WORK/kiwisolver-1.5.1"
  cppy=$(python3.14 -c 'import cppy; print(cppy.get_include())')
  for part in constraint expression kiwisolver solver strength term variable; do
    small-c++ -std=c++11 -DNDEBUG -I/usr/include/python3.14 -I. -I"$cppy" \
      -c "py/src/$part.cpp" -o "$WORK/build-kiwisolver/$part.o"
  done
  module=$WORK/build-kiwisolver/_cext.cpython-314-wasm32-emscripten.so
  small-c++ -shared -o "$module" "$WORK"/build/kiwisolver/*.o
  cp py/kiwisolver/*.py "$module" "$WORK/installed/kiwisolver/kiwisolver/"
}

pack() {
  licence=$(python3.14 -c '
import importlib.metadata as m
print(next(f.locate() for f in m.files("pybind11") if f.name == "LICENSE"))')
  cp "$licence" "$WORK/pybind11_LICENSE"
  rm -rf "$WORK/wheels"
  python3.14 "$HERE/pack.py" "$WORK" "$WORK/wheels"
}

for step in $STEPS; do
  echo "== $step"
  $step
done

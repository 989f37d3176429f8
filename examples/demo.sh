#!/usr/bin/env bash
# What `make demo` runs: a TIFF stack becomes a Zarr array, checked voxel by voxel. Argument: the folder to work in.
set -euo pipefail
demo=${1:-demo}
examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

mkdir -p "$demo"
say "1. A microscopy stack: 128 planes of 512×512 in one compressed TIFF"
run python "$examples/make_sample.py" "$demo/cells.tif"
run bioimage-py info "$demo/cells.tif"

say "2. What a copy into Zarr would do"
run bioimage-py plan "$demo/cells.tif" "$demo/cells.zarr"

say "3. The copy"
run bioimage-py copy "$demo/cells.tif" "$demo/cells.zarr" --workers 2
run bioimage-py info "$demo/cells.zarr"

say "4. Every voxel compared"
run bioimage-py verify "$demo/cells.tif" "$demo/cells.zarr"

say "5. A picture of it: three slices in the right proportion, with a scale bar"
run bioimage-py preview "$demo/cells.zarr" -o "$demo/cells.png" --overwrite

say "Look at it"
bin=$(dirname "$(command -v bioimage-py)")
cat <<TEXT
the picture  file://$(cd "$demo" && pwd)/cells.png
the array    $demo/cells.zarr
in Python    $bin/python -c 'import bioimage_py as bp; print(bp.open_source("$demo/cells.zarr")[64, 250:256, 250:256])'
in a browser $bin/python -m pip install neuroglancer && $bin/bioimage-py view $demo/cells.zarr
your own     $bin/bioimage-py copy your_stack.tif your_stack.zarr --verify
TEXT

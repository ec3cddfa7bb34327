#!/bin/sh
# What a user asks of a running daemon: hearth run, ps, load, unload, status, logs, sessions, stop.
. "$(dirname "$0")/common.sh"
need_model
need_python
"$hearth" serve --help > /dev/null 2>&1 || skip 'the program is built without its daemon'
XDG_RUNTIME_DIR=$scratch/runtime
mkdir "$XDG_RUNTIME_DIR"
export XDG_RUNTIME_DIR
python3 "$here/daemon.py" "$hearth" "$model" "$scratch"

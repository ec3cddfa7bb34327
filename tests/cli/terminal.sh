#!/bin/sh
# What only a terminal shows: conversations, line editing, Ctrl-C and how soon it works.
. "$(dirname "$0")/common.sh"
need_model
need_python
python3 "$here/terminal.py" "$hearth" "$model" "$scratch"

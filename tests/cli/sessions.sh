#!/bin/sh
# Conversations that are kept: hearth run --session, hearth sessions.
. "$(dirname "$0")/common.sh"
need_model
need_python
python3 "$here/sessions.py" "$hearth" "$model" "$scratch"

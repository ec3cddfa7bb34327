#!/bin/sh
# electron.sh HEARTH script|app|shim: the two scripts of examples/electron with the real model.
#   script  test-local-model.js
#   app     test-electron-local.js in whole: the real Electron if scripts/electron.sh has it, else over the shim
#   shim    what of it is no measurement, over the shim in any case
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
example=$root/examples/electron
HEARTH_BINARY=$1
HEARTH_MODELS=${HEARTH_MODELS:-$("$root/scripts/models.sh" --dir)}
export HEARTH_BINARY HEARTH_MODELS

skip() {
    echo "skipped: $1" >&2
    exit 77
}

command -v node > /dev/null || skip "node is not installed"
[ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] || skip "node is older than 20"
model=$HEARTH_MODELS/SmolLM2-135M-Instruct.Q4_1.gguf
[ -s "$model" ] || skip "scripts/models.sh smollm2 has not run"
cd "$example"
[ "$2" != script ] || exec node test-local-model.js "$model" all

command -v chromium > /dev/null || skip "chromium is not installed"
command -v npm > /dev/null || skip "npm is not installed"
node test/stage.js || skip "what the example needs of npm cannot be fetched"
if [ "$2" = shim ]; then
    exec node test-electron-local.js --shim --except types,frozen,config,accessible
fi
electron=$("$root/scripts/electron.sh" --dir)
if [ -x "$electron/electron" ] && command -v Xvfb > /dev/null; then
    ELECTRON_OVERRIDE_DIST_PATH=$electron
    export ELECTRON_OVERRIDE_DIST_PATH
fi
exec node test-electron-local.js

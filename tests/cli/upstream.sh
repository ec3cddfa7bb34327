#!/bin/sh
# hearth upstream: the list of models that other servers answer.
. "$(dirname "$0")/common.sh"

"$hearth" --help | grep -q '  upstream ' || skip 'this hearth has no daemon'
list=$XDG_STATE_HOME/hearth/upstreams.json

run 0 upstream
out_empty
err_has 'no model is answered by another server'
run 0 upstream add big http://gpu.lan:8000/v1 --model org/Big-70B
err_has 'when it is started the next time'
[ "$(stat -c %a "$list")" = 600 ] || fail 'the list is not private'
printf 'sk-secret\n' > "$scratch/key"
chmod 644 "$scratch/key"
run 1 upstream add cloud https://api.example.com/v1 --key-file "$scratch/key"
err_has 'it must be 600'
chmod 600 "$scratch/key"
cd "$scratch" || exit 1
run 0 upstream add cloud https://api.example.com/v1 --key-file key
grep -q secret "$list" && fail 'the key is in the list'
run 0 upstream list
out_has 'big  http://gpu.lan:8000/v1  as org/Big-70B'
out_has 'cloud  https://api.example.com/v1  as cloud, with a key'
run 0 upstream --json
out_has "\"key_file\": \"$scratch/key\""
out_has '"model": "org/Big-70B"'

# what cannot be
run 1 upstream add big http://other/v1
err_has "there is an upstream 'big' already"
run 1 upstream add x ftp://host/
err_has 'http:// or https://'
run 1 upstream add x http://user:secret@host/
err_has 'http:// or https://'
run 1 upstream add 'two words' http://host/
err_has 'no spaces'
run 1 upstream add x http://host/ --key-file "$scratch/none"
err_has 'No such file'
run 1 upstream remove nothing
err_has "there is no upstream 'nothing'"
run 2 upstream add alone
run 2 upstream remove
run 2 upstream remove big http://host/
run 2 upstream list big
run 2 upstream replace big
out_empty

run 0 upstream remove big
run 0 upstream list
grep -q big "$scratch/out" && fail 'it is still there'
printf '{' > "$list"
run 1 upstream
err_has 'line 1'
chmod 644 "$list"
run 1 upstream
err_has 'it must be 600'

finish

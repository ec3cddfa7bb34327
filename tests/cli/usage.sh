#!/bin/sh
# What the command line promises without a model: help, errors, exit codes, man pages, completions.
. "$(dirname "$0")/common.sh"

commands='run sessions inspect tokenize perplexity bench completion help'
"$hearth" serve --help > /dev/null 2>&1 && # it is built with its daemon
    commands="$commands serve ps status load unload logs stop upstream"

# results on standard output, talk on standard error
run 0 --version
out_has 'hearth '
err_empty
run 0 --help
err_empty
for command in $commands; do out_has "  $command "; done

# a wrong command line: 2, a sentence, nothing on standard output
run 2
out_empty
run 2 rum model
out_empty
err_has "hearth: there is no command 'rum'; did you mean run?"
run 2 run
err_has 'hearth: hearth run needs MODEL: a GGUF file'
run 2 run model --temperatur 1
out_empty
err_has 'hearth: there is no option --temperatur'
run 2 run model --max-token 4
err_has 'did you mean --max-tokens?'
run 2 run model -Z
err_has 'hearth: there is no option -Z'
run 2 run model --json=yes
err_has 'hearth: --json takes no value'
run 2 run model prompt -n
err_has 'hearth: --max-tokens needs a value: --max-tokens N'
run 2 run model one two
err_has "'two' is one word too many after PROMPT"
run 2 run model prompt --logit-bias 12
err_has '42-inf'
run 2 run model prompt --stop ''
err_has '--stop takes a text that is not empty'
run 2 run model prompt --raw --system text
err_has '--raw and --system exclude each other'
run 2 perplexity model
err_has 'needs a FILE'
run 2 completion ksh
err_has 'only for bash, zsh and fish'
run 2 --man nothing
err_has '--man takes the name of a command'

# numbers: out of range, no number, too large for any type, nothing at all
for value in -1 0 x 1x '' 1e3 99999999999999999999999; do
    run 2 run model prompt -n "$value"
    err_has "hearth: --max-tokens takes a whole number from 1 to 2000000000, not '$value'"
done
for value in -0.1 101 nan inf x ''; do
    run 2 run model prompt "--temp=$value"
    err_has "hearth: --temp takes a number from 0 to 100, not '$value'"
done
run 2 run model prompt --kv q4
err_has "hearth: --kv takes one of f16, q8_0, q4_0, q8_0:q4_0, not 'q4'"

# an error: 1, one sentence
run 1 run "$scratch/missing.gguf" prompt
out_empty
err_lines 1
err_has "hearth: $scratch/missing.gguf"
echo 'no model' > "$scratch/text.gguf"
for command in 'inspect' 'tokenize' 'run'; do
    run 1 "$command" "$scratch/text.gguf"
    out_empty
    err_lines 1
done
if [ -w /dev/full ]; then
    "$hearth" --help > /dev/full 2> "$scratch/err"
    [ $? -eq 1 ] || fail 'a full disk is an error'
    err_has 'hearth: standard output cannot be written'
fi

# help, man page and completions name the same options
for command in $commands; do
    "$hearth" "$command" --help > "$scratch/help" || fail "$command --help"
    "$hearth" help "$command" | cmp -s - "$scratch/help" || fail "help $command differs"
    "$hearth" --man "$command" | sed 's/\\-/-/g' > "$scratch/man"
    "$hearth" completion fish | sed -n "s/.*from $command' -l \\([^ ]*\\).*/\\1/p" > "$scratch/names"
    [ -s "$scratch/names" ] || fail "$command has no options in the completion"
    while read -r name; do
        grep -qw -e "--$name" "$scratch/help" || fail "$command --help lacks --$name"
        grep -qw -e "--$name" "$scratch/man" || fail "the man page of $command lacks --$name"
        "$hearth" completion bash | grep -qw -e "--$name" || fail "bash lacks --$name"
        "$hearth" completion zsh | grep -qw -e "--$name" || fail "zsh lacks --$name"
    done < "$scratch/names"
    awk 'length($0) > 100 { exit 1 }' "$scratch/help" || fail "$command --help has long lines"
done

# what other programs think of them
for command in '' $commands; do
    "$hearth" --man $command > "$scratch/page.1"
    if command -v mandoc > /dev/null; then
        # a page of a build has no date
        mandoc -T lint -W warning "$scratch/page.1" | grep -v 'missing date' > "$scratch/out"
        out_empty
    fi
    if command -v groff > /dev/null; then
        groff -man -Tutf8 -ww "$scratch/page.1" > "$scratch/out" 2> "$scratch/err"
        err_empty
    fi
done
for shell in bash zsh fish; do
    "$hearth" completion $shell > "$scratch/script"
    if command -v $shell > /dev/null; then
        $shell -n "$scratch/script" > "$scratch/out" 2> "$scratch/err" || fail "$shell -n"
    fi
done
if command -v bash > /dev/null; then
    "$hearth" completion bash > "$scratch/script"
    complete() { # WORDS...: what bash offers for the last one
        bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hearth
            printf "%s\n" "${COMPREPLY[@]}"' - "$scratch/script" "$@" > "$scratch/out" \
            2> "$scratch/err"
    }
    complete hearth r
    [ "$(cat "$scratch/out")" = run ] || fail 'bash completes a command'
    complete hearth run --top
    out_has --top-k
    out_has --top-n-sigma
    complete hearth run --kv ''
    out_has q8_0
    complete hearth run --temp ''
    [ -z "$(cat "$scratch/out")" ] || fail 'bash offers something for a number'
    complete hearth inspect "$scratch/te"
    out_has "$scratch/text.gguf"
    complete hearth help per
    out_has perplexity
fi
finish

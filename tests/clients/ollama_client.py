"""The daemon at HEARTH_URL as PyPI's `ollama` sees it, with the model HEARTH_MODEL."""

import os
import time

import ollama

client = ollama.Client(host=os.environ["HEARTH_URL"])
MODEL = os.environ["HEARTH_MODEL"]
MESSAGES = [{"role": "user", "content": "Name three rivers."}]
OPTIONS = {"temperature": 0, "num_predict": 24}


def fails(status, words, call):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status, error
        assert words in error.error, error
    else:
        raise AssertionError(f"no error with {words}")


def test_models_are_listed_and_shown():
    entry = next(model for model in client.list().models if model.model == MODEL)
    assert entry.size > 0 and entry.details.format == "gguf" and entry.modified_at.year > 2000
    shown = client.show(MODEL)
    assert shown.modelinfo["general.architecture"] == shown.details.family
    assert "completion" in shown.capabilities and shown.template


def test_a_stream_says_what_the_whole_says():
    whole = client.chat(MODEL, MESSAGES, options=OPTIONS)
    assert whole.done and whole.message.content and whole.eval_count <= 24
    parts = list(client.chat(MODEL, MESSAGES, options=OPTIONS, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert parts[-1].done and parts[-1].eval_count == whole.eval_count
    prompt = client.generate(MODEL, MESSAGES[0]["content"], options=OPTIONS)
    assert prompt.response == whole.message.content


def test_a_stream_is_left():
    for part in client.chat(MODEL, [{"role": "user", "content": "Tell me a very long story."}],
                            options={"num_predict": 2000}, stream=True):
        assert part.message is not None
        break
    assert client.chat(MODEL, MESSAGES, options=OPTIONS).done


def test_texts_have_vectors():
    answer = client.embed(MODEL, ["a river", "a stream"], dimensions=16)
    assert [len(vector) for vector in answer.embeddings] == [16, 16]
    assert abs(sum(value * value for value in answer.embeddings[0]) - 1) < 1e-3
    assert len(client.embeddings(MODEL, "a river").embedding) > 16


def test_tokens_have_probabilities():
    answer = client.chat(MODEL, MESSAGES, options=OPTIONS, logprobs=True, top_logprobs=2)
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in answer.logprobs)


def test_errors_are_told():
    fails(404, "nobody", lambda: client.chat("nobody", MESSAGES))
    fails(400, "format", lambda: client.chat(MODEL, MESSAGES, format="json"))
    fails(400, "context", lambda: client.generate(MODEL, "word " * 100000))
    fails(404, "downloaded", lambda: client.pull("nobody"))


def test_models_are_loaded_and_unloaded():
    client.generate(MODEL, "", keep_alive="10m")
    (loaded,) = client.ps().models
    assert loaded.model == MODEL and 8 * 60 < loaded.expires_at.timestamp() - time.time() < 11 * 60
    assert client.chat(MODEL, [], keep_alive=0).done_reason == "unload"
    for _ in range(100):
        if not client.ps().models:
            break
        time.sleep(0.05)
    assert not client.ps().models


for name, test in list(globals().items()):
    if name.startswith("test_"):
        begin = time.monotonic()
        test()
        print(f"{name[5:].replace('_', ' ')}: {time.monotonic() - begin:.1f} s")

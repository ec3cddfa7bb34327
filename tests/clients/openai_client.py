"""The daemon at HEARTH_URL as PyPI's `openai` sees it, with the model HEARTH_MODEL."""

import asyncio
import os
import threading
import time
import unittest

import openai

URL, MODEL = os.environ["HEARTH_URL"] + "/v1", os.environ["HEARTH_MODEL"]
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Name three rivers."}],
         "temperature": 0, "max_tokens": 24}


class Clients(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)

    def tearDown(self):
        self.client.close()

    def text(self):
        return self.client.chat.completions.create(**ASKED).choices[0].message.content

    def test_chat(self):
        answer = self.client.chat.completions.create(**ASKED)
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens,
                         answer.usage.prompt_tokens + answer.usage.completion_tokens)
        raw = self.client.chat.completions.with_raw_response.create(**ASKED)
        self.assertEqual(raw.headers["content-type"], "application/json")

    def test_stream(self):
        stream = self.client.chat.completions.create(
            **ASKED, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(said, self.text())
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 1)

    def test_stream_helper(self):
        ends = ASKED | {"stop": ["."], "max_tokens": 200}  # the helper raises where length ends it
        with self.client.chat.completions.stream(**ends) as stream:
            for _ in stream:
                pass
            said = stream.get_final_completion().choices[0].message.content
        answer = self.client.chat.completions.create(**ends)
        self.assertEqual(said, answer.choices[0].message.content)

    def test_stream_closed(self):
        stream = self.client.chat.completions.create(
            **ASKED | {"max_tokens": 2000}, stream=True, extra_body={"ignore_eos": True})
        next(stream)
        stream.close()
        begun = time.monotonic()
        self.assertTrue(self.text())
        self.assertLess(time.monotonic() - begun, 20)

    def test_timeout(self):
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.3).chat.completions.create(
                **ASKED | {"max_tokens": 2000}, extra_body={"ignore_eos": True})

    def test_async(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=URL, api_key="none") as client:
                return await asyncio.gather(
                    *(client.chat.completions.create(**ASKED) for _ in range(4)))
        texts = {answer.choices[0].message.content for answer in asyncio.run(ask())}
        self.assertEqual(texts, {self.text()})

    def test_threads(self):
        texts = []
        threads = [threading.Thread(target=lambda: texts.append(self.text())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(texts), 4)
        self.assertEqual(len(set(texts)), 1)

    def test_choices_and_probabilities(self):
        answer = self.client.chat.completions.create(
            **ASKED | {"temperature": 1.5, "n": 2}, seed=3, logprobs=True, top_logprobs=2)
        self.assertEqual([c.index for c in answer.choices], [0, 1])
        for choice in answer.choices:
            for token in choice.logprobs.content:
                self.assertEqual(len(token.top_logprobs), 2)
                self.assertLessEqual(token.logprob, 0)

    def test_completions(self):
        answer = self.client.completions.create(
            model=MODEL, prompt="The capital of France is", max_tokens=5, temperature=0)
        self.assertIn("Paris", answer.choices[0].text)

    def test_embeddings(self):
        texts = ["a cat sleeps", "tax law"]
        floats = self.client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
        base64 = self.client.embeddings.create(model=MODEL, input=texts, encoding_format="base64")
        default = self.client.embeddings.create(model=MODEL, input=texts)
        self.assertIsInstance(base64.data[0].embedding, str)
        for one, other in zip(floats.data, default.data):
            self.assertEqual(len(one.embedding), len(other.embedding))
            self.assertTrue(all(abs(a - b) < 1e-7 for a, b in zip(one.embedding, other.embedding)))

    def test_models(self):
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL)

    def test_errors(self):
        create = self.client.chat.completions.create
        with self.assertRaises(openai.NotFoundError) as caught:
            create(**ASKED | {"model": "absent"})
        self.assertEqual(caught.exception.param, "model")
        self.assertEqual(caught.exception.type, "not_found_error")
        with self.assertRaises(openai.BadRequestError) as caught:
            create(**ASKED | {"temperature": -1})
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError):
            create(**ASKED, tools=[{"type": "function", "function": {"name": "f"}}])


if __name__ == "__main__":
    unittest.main()

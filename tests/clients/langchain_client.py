"""The daemon at HEARTH_URL as LangChain's OpenAI client sees it, with the model HEARTH_MODEL."""

import asyncio
import os
import unittest

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

SERVER = {"base_url": os.environ["HEARTH_URL"] + "/v1", "api_key": "none",
          "model": os.environ["HEARTH_MODEL"]}
TALK = [SystemMessage("Be brief."), HumanMessage("Hello!"), AIMessage("Hello."),
        HumanMessage("Name three rivers.")]


class LangChain(unittest.TestCase):
    def setUp(self):
        self.chat = ChatOpenAI(**SERVER, temperature=0, max_tokens=24, max_retries=0,
                               stream_usage=True)

    def test_invoke(self):
        answer = self.chat.invoke(TALK)
        self.assertTrue(answer.content)
        self.assertGreater(answer.usage_metadata["input_tokens"], 10)
        self.assertIn(answer.response_metadata["finish_reason"], ("stop", "length"))

    def test_stream(self):
        whole = None
        for chunk in self.chat.stream(TALK):
            whole = chunk if whole is None else whole + chunk
        self.assertEqual(whole.content, self.chat.invoke(TALK).content)
        self.assertGreater(whole.usage_metadata["output_tokens"], 1)

    def test_batch_and_async(self):
        one = self.chat.invoke(TALK).content
        self.assertEqual([answer.content for answer in self.chat.batch([TALK] * 3)], [one] * 3)
        self.assertEqual(asyncio.run(self.chat.ainvoke(TALK)).content, one)

    def test_embeddings(self):
        # without this it sends token ids of a tokenizer of its own
        embeddings = OpenAIEmbeddings(**SERVER, check_embedding_ctx_length=False)
        query = embeddings.embed_query("a cat sleeps")
        documents = embeddings.embed_documents(["a cat sleeps", "tax law"])
        self.assertEqual(len(documents), 2)
        self.assertTrue(all(abs(a - b) < 1e-6 for a, b in zip(query, documents[0])))


if __name__ == "__main__":
    unittest.main()

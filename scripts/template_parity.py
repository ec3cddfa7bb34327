#!/usr/bin/env python3
"""Renders chat templates with Python's jinja2 and with ours, and demands the same bytes.

usage: template_parity.py DRIVER TEMPLATES [-v]

DRIVER is the built tests/model/template_driver.c; TEMPLATES a directory of *.jinja files. Every
template is rendered with every conversation below. Where jinja2 raises, ours must, and the other
way round. Prints the number of equal pairs; the exit code is 1 where one differs.

The environment is the one that Hugging Face's apply_chat_template sets up
(transformers/utils/chat_template_utils.py), written down again in `environment`.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
from datetime import datetime

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

os.environ["TZ"] = "UTC"
NOW = 1763900000


class AssistantTracker(jinja2.ext.Extension):
    """{% generation %}: a call block around the assistant's text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_generation_support")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _generation_support(self, context, caller):
        return caller()


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            TemplateNamespace._check_name(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        TemplateNamespace._check_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check_name(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment(now):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def strftime_now(format):
        return datetime.fromtimestamp(now).strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[AssistantTracker, jinja2.ext.loopcontrols],
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    env.globals["dict"] = TemplateDict()
    env.globals["namespace"] = TemplateNamespace
    return env


def reference(template, variables, now=NOW):
    """{"ok": text} or {"error": why}, as the driver answers; `template` may be compiled already."""
    try:
        if isinstance(template, str):
            template = environment(now).from_string(template)
        text = template.render(**json.loads(json.dumps(variables)))
        text.encode()
        return {"ok": text}
    except Exception as error:  # whatever Python raises counts as an error
        return {"error": f"{type(error).__name__}: {error}"}


# ---- conversations ----

def say(role, content, **more):
    return {"role": role, "content": content, **more}


USER = say("user", "What is the capital of France?")
SHORT = [USER]
TURNS = [
    USER,
    say("assistant", "Paris."),
    say("user", "And of Japan?"),
    say("assistant", "Tokyo."),
    say("user", "Thanks!"),
]
SYSTEM = [say("system", "You are terse."), *TURNS]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather for a place, \"now\" & later <b>.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City\nor village"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "exact": {"type": "boolean"},
                "options": {
                    "type": "object",
                    "properties": {"wind": {"type": "boolean"}, "level": {"type": "number"}},
                    "required": ["wind"],
                },
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["place"],
        },
        "return": {"type": "string"},
    },
}
EMPTY_TOOL = {
    "type": "function",
    "function": {
        "name": "noop",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}
UNION_TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches.",
        "parameters": {
            "type": "object",
            "properties": {
                "q": {"type": ["string", "null"], "description": "query"},
                "k": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                "filter": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
                "score": {"type": "number", "default": 0.5, "nullable": True},
            },
            "required": ["q", "k"],
            "additionalProperties": False,
        },
    },
}


def call(name, arguments, call_id="abcdef123"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool_turns(arguments, content="", **more):
    return [
        say("user", "Weather in Oslo?"),
        say("assistant", content, tool_calls=[call("get_weather", arguments)], **more),
        say("tool", "{\"temperature\": -3.5}", name="get_weather", tool_call_id="abcdef123"),
        say("assistant", "It is -3.5 degrees."),
        say("user", "And tomorrow?"),
    ]


PARTS = [
    say("system", [{"type": "text", "text": "Be kind."}]),
    say("user", [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]),
    say("assistant", [{"type": "text", "text": "A cat."}]),
    say("user", [{"type": "image"}, {"type": "text", "text": "And this?"}, {"type": "image", "image": "x.png"}]),
]
ODD = [
    say("system", ""),
    say("user", "  \n\t leading and trailing \n\n "),
    say("assistant", "Quotes ' \" and \\ and {{ braces }} {% raw %} <|im_end|> </s> & <b>"),
    say("user", "ünïcödé 你好 שלום 🙂🏳️‍🌈 \u00a0\u2028\u200b ǅ ß İ"),
    say("assistant", "line\r\nline\rline\x0bline\x1c\u0085end"),
    say("user", "a\u0000b\x7f\x01"),
]
REASONING = [
    say("user", "2+2?"),
    say("assistant", "4", reasoning_content="Two and two\nmake four.", thinking="Two and two\nmake four."),
    say("user", "3+3?"),
    say("assistant", "<think>\nthree\n</think>\n\n6"),
    say("user", "4+4?"),
]


def conversations():
    """(name, variables): variables as apply_chat_template passes them."""
    base = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
    }

    def of(name, messages, **more):
        return name, {**base, "messages": messages, **more}

    tools = [WEATHER, EMPTY_TOOL]
    parallel = [
        say("user", "Compare."),
        say(
            "assistant",
            None,
            tool_calls=[
                call("get_weather", {"place": "Oslo", "days": 2}, "call00001"),
                call("get_weather", {"place": "Bergen \"B\"", "tags": ["a", "b"], "exact": True}, "call00002"),
            ],
        ),
        say("tool", "cold", name="get_weather", tool_call_id="call00001"),
        say("tool", {"temperature": 4, "ok": None}, name="get_weather", tool_call_id="call00002"),
    ]
    documents = [{"title": "One", "text": "First text."}, {"title": "Two", "text": "Second \"text\".", "doc_id": 7}]
    yield of("one turn", SHORT)
    yield of("one turn, no prompt", SHORT, add_generation_prompt=False)
    yield of("turns", TURNS)
    yield of("turns ending with an answer", TURNS[:4], add_generation_prompt=False)
    yield of("turns ending with an answer, prompt", TURNS[:4])
    yield of("system", SYSTEM)
    yield of("system, no prompt", SYSTEM, add_generation_prompt=False)
    yield of("system only", SYSTEM[:1])
    yield of("developer", [say("developer", "Be brief."), USER])
    yield of("empty list", [])
    yield of("empty list, no prompt", [], add_generation_prompt=False)
    yield of("two users", [USER, USER])
    yield of("starts with the assistant", [say("assistant", "Hello."), USER])
    yield of("system in the middle", [USER, say("assistant", "Hi."), say("system", "Now rhyme."), USER])
    yield of("unknown role", [USER, say("moderator", "Stop."), USER])
    yield of("tools, one turn", SHORT, tools=tools)
    yield of("tools, system", SYSTEM, tools=tools)
    yield of("tools, no prompt", SYSTEM, tools=tools, add_generation_prompt=False)
    yield of("union types in tools", SHORT, tools=[UNION_TOOL])
    yield of("empty tools", SHORT, tools=[])
    yield of("tool call, object", tool_turns({"place": "Oslo", "days": 1, "options": {"wind": False}}), tools=tools)
    yield of("tool call, string", tool_turns("{\"place\": \"Oslo\", \"days\": 1}"), tools=tools)
    yield of("tool call, empty arguments", tool_turns({}), tools=tools)
    yield of("tool call, null content", tool_turns({"place": "Oslo"}, None), tools=tools)
    yield of("tool call with text", tool_turns({"place": "Øst"}, "Let me look."), tools=tools)
    yield of("tool call with reasoning", tool_turns({"place": "Oslo"}, "", reasoning_content="I need the weather.", thinking="I need the weather."), tools=tools)
    yield of("tool call without tools", tool_turns({"place": "Oslo"}))
    yield of("tool result last", tool_turns({"place": "Oslo"})[:3], tools=tools)
    yield of("tool result last, no prompt", tool_turns({"place": "Oslo"})[:3], tools=tools, add_generation_prompt=False)
    yield of("tool call last", tool_turns({"place": "Oslo"})[:2], tools=tools, add_generation_prompt=False)
    yield of("parallel calls", parallel, tools=tools)
    yield of("reasoning", REASONING)
    yield of("reasoning, thinking on", REASONING, enable_thinking=True, thinking=True)
    yield of("reasoning, thinking off", REASONING, enable_thinking=False, thinking=False)
    yield of("one turn, thinking on", SHORT, enable_thinking=True, thinking=True, thinking_mode="thinking")
    yield of("one turn, thinking off", SHORT, enable_thinking=False, thinking=False, thinking_mode="chat")
    yield of("reasoning effort", SYSTEM, reasoning_effort="high", tools=tools)
    yield of("reasoning last", REASONING[:2], add_generation_prompt=False)
    yield of("odd text", ODD)
    yield of("empty content", [say("user", ""), say("assistant", ""), say("user", " ")])
    yield of("null content", [say("user", None)])
    yield of("missing content", [{"role": "user"}])
    yield of("missing role", [{"content": "Hello."}])
    yield of("number as content", [say("user", 42), say("assistant", True), say("user", 1.5)])
    yield of("parts", PARTS)
    yield of("parts, one text", [say("user", [{"type": "text", "text": "Hello."}])])
    yield of("parts, empty", [say("user", [])])
    yield of("documents", SYSTEM, documents=documents)
    yield of("documents and tools", SHORT, documents=documents, tools=tools)
    yield of("continue the final message", [USER, say("assistant", "Paris is CONTINUE_FINAL_MESSAGE_TAG ")], add_generation_prompt=False, continue_final_message=True)
    yield of("named participants", [say("user", "Hi.", name="Ann"), say("assistant", "Hello.", name="Bot"), say("user", "Bye.", name="Bob")])
    yield of("date given", SYSTEM, date_string="26 Jul 2024", current_date="2024-07-26")
    yield of("many turns", TURNS[:4] * 25 + [USER])
    yield of("no tokens", SHORT, bos_token=None, eos_token="")
    yield of("extra variables", SYSTEM, custom_instructions="Do.", model_identity="I am a test.", builtin_tools=["python", "browser"], xml_tools=None, tools_in_user_message=False)


class Driver:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template, variables, now=NOW):
        request = {"template": template, "variables": variables, "now": now}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the driver ended with {self.process.wait()}")
        return json.loads(line)


def agree(theirs, ours):
    if "ok" in theirs or "ok" in ours:
        return theirs == ours
    # endless recursion is an error of the template there, and a limit here
    return ours["code"] == (-6 if theirs["error"].startswith("RecursionError") else -10)


def compare(driver, source, cases, label, verbose):
    """(equal, raised by both, different)"""
    try:
        compiled = environment(NOW).from_string(source)
    except Exception:
        compiled = source
    equal = raised = different = 0
    for name, variables in cases:
        theirs, ours = reference(compiled, variables), driver.render(source, variables)
        same = agree(theirs, ours)
        equal += same
        raised += same and "ok" not in theirs
        different += not same
        if not same:
            print(f"DIFFERENT {label}: {name}\n  jinja2: {theirs!r:.600}\n  ours:   {ours!r:.600}")
        elif verbose and "ok" not in theirs:
            print(f"raised {label}: {name}\n  jinja2: {theirs!r:.200}\n  ours:   {ours!r:.200}")
    return equal, raised, different


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("driver")
    parser.add_argument("templates", type=pathlib.Path)
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    driver = Driver(args.driver)
    cases = list(conversations())
    files = sorted(args.templates.glob("*.jinja"))
    if not files:
        sys.exit(f"no *.jinja files in {args.templates}")
    total = [0, 0, 0]
    for path in files:
        counts = compare(driver, path.read_bytes().decode(), cases, path.name, args.verbose)
        total = [a + b for a, b in zip(total, counts)]
    print(
        f"{len(files)} templates x {len(cases)} conversations: {total[0]} pairs equal "
        f"({total[1]} of them raised by both), {total[2]} different"
    )
    sys.exit(total[2] != 0)


if __name__ == "__main__":
    main()

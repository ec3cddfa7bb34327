#!/usr/bin/env python3
"""Writes tests/golden/templates/language.jsonl: what Python's jinja2 makes of small templates.

usage: template_golden.py [--check DRIVER]

The first line holds the variables that all templates see and the moment; every further line a
template with its text, or with "error": true where jinja2 raises. With --check the file is left
alone and the driver (tests/model/template_driver.c) is compared with jinja2 on the spot.
"""
import argparse
import json
import pathlib
import sys

import template_parity

NOW = 1763900000
VARIABLES = {
    "none_value": None,
    "yes": True,
    "no": False,
    "n": 7,
    "zero": 0,
    "negative": -3,
    "f": 2.5,
    "tiny": 1e-7,
    "huge": 1e22,
    "s": "Hello, World",
    "empty": "",
    "spaces": "  two  words ",
    "unicode": "Straße ΟΔΟΣ ñandú 你好 🙂 ǆ",
    "quotes": "it's \"quoted\" \\ back",
    "lines": "one\ntwo\r\n\n  four\n",
    "markup": "<a href=\"x\">T & C's</a>",
    "numbers": [3, 1, 2, 10, -1],
    "words": ["banana", "apple", "Cherry", "apple", "banana"],
    "mixed": [1, "a", None, True, 2.5, [1, [2]], {"k": "v"}],
    "nothing": [],
    "d": {"b": 2, "a": 1, "C": 3, "items": "shadow", "nested": {"x": {"y": [10, 20]}}},
    "people": [
        {"name": "Ann", "age": 31, "city": "Oslo", "tags": ["x", "y"], "boss": None},
        {"name": "bob", "age": 25, "city": "bergen", "tags": [], "boss": {"name": "Ann"}},
        {"name": "Cid", "age": 31, "city": "oslo", "tags": ["x"], "boss": {"name": "bob"}},
        {"name": "Dee", "age": 4, "city": "Bergen"},
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi {{ there }} "},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [True, None, "ü"]}}}]},
        {"role": "tool", "content": "ok"},
    ],
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}, {"v": 5, "c": []}],
    "range": [9],
}

TEMPLATES = r'''
plain text
{{ s }}|{{ n }}|{{ f }}|{{ yes }}|{{ none_value }}|{{ missing }}|{{ numbers }}|{{ d }}
{{ true }} {{ True }} {{ false }} {{ none }} {{ None }}
{{ mixed }}
{{ 1.0 }} {{ 0.1 }} {{ 1e16 }} {{ 1e15 }} {{ 1.5e-5 }} {{ 0.0001 }} {{ 123456789.125 }} {{ 1e300 }} {{ 2.5e-10 }} {{ 100.0 }} {{ -0.0 }}
{{ tiny }} {{ huge }} {{ 1/3 }} {{ 2/3 }} {{ 1e22 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}
{{ 0x1f }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5 }} {{ 00 }} {{ 1e2 }} {{ 1E+2 }}
{{ 'a\nb\t\'\"\\\x41\u00e9\U0001f642\101\q' }}
{{ "line\
joined" }}
{{ 'é\é' }}
{{ 'a' 'b' "c" }}
{{ '\x4' }}
{{ 'unterminated }}
{{ [1, 'a', none, true, 2.5, (), (1,), (1, 2), {}, {'a': [1]}] }}
{{ {'a': 1, 'b': {'c': "it's"}, 1: 2, none: 3, (1, 2): 'x'} }}
{{ {'a': 1, 'a': 2, 1: 'x', true: 'y', 1.0: 'z'} }}
{{ {[1]: 2} }}
{{ [1, 2, 3,] }} {{ (1, 2,) }} {{ {'a': 1,} }} {{ () }} {{ 1, 2 }} {{ (1) }}
{{ 'tab\there', "nl\n", '\x00\x7f\x80\xad', 'é', "'", '"', '\'"', '\u200b', '\U0001f642', '\u2028' }}
{{ quotes }} {{ [quotes] }} {{ [unicode] }} {{ [lines] }}
{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 7.5 % -2 }} {{ 1e308 * 10 }} {{ 0.1 + 0.2 }} {{ 2 ** 0.5 }} {{ 4.0 ** 2 }} {{ -0.0 // 1 }} {{ 6 / 3 }} {{ 5.0 // 0.3 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 % 0 }}
{{ 0 ** -1 }}
{{ +5 }} {{ -5 }} {{ - -5 }} {{ +true }} {{ -true }} {{ not true }} {{ not not 1 }} {{ not '' }}
{{ true + true }} {{ true * 3 }} {{ 1 + 1.5 }} {{ 3 * 'ab' }} {{ 'ab' * 2 }} {{ 'ab' * -1 }} {{ [1] * 3 }} {{ 2 * (1, 2) }} {{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'a' + 'b' }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ none + 1 }}
{{ 'a' - 'b' }}
{{ 'a' * 'b' }}
{{ {} + {} }}
{{ -'a' }}
{{ 1 ~ 2 ~ 'x' ~ none ~ [1] ~ missing }} {{ 1 + 2 ~ 3 + 4 }} {{ 2 * 3 ~ 4 }}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 3 > 2 == 2 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1, 2) <= (1, 2) }} {{ [1] == (1,) }} {{ 'a' == 1 }} {{ none == none }} {{ none == false }} {{ {} == {} }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ 1 != 2 }} {{ 'é' > 'z' }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ {} < {} }}
{{ [1, 'a'] < [1, 2] }}
{{ 1 in [1, 2] }} {{ 3 not in [1] }} {{ 'a' in 'abc' }} {{ '' in 'abc' }} {{ 'k' in {'k': 1} }} {{ 1 in {1.0: 2} }} {{ 2 in (1, 2) }} {{ none in [none] }} {{ 'x' in missing }} {{ [1] in [[1]] }} {{ 3 in [1, 2] or true }} {{ 1 in [1] == true }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ 'a' in none }}
{{ [1] in {} }}
{{ 1 and 2 }} {{ 0 and 2 }} {{ 0 or 'x' }} {{ '' or none }} {{ 1 or missing.x }} {{ 0 and missing.x }} {{ not 1 == 2 }} {{ not 1 and 2 }} {{ 1 and 2 or 3 and 4 }} {{ [] or {} or () or '' or 0 or none }}
{{ 'a' if yes else 'b' }} {{ 'a' if no }} {{ 'a' if no else 'b' if no else 'c' }} {{ ('a' if no) is defined }} {{ 1 + 2 if yes else 3 }}
{{ ('a' if no) + 'b' }}
{{ s.upper() }} {{ s|upper }} {{ s|lower|title }} {{ -3|abs }} {{ (-3)|abs }} {{ 'a' ~ 'b'|upper }} {{ 1 + '2'|int }}
{{ missing is defined }} {{ missing.x is defined }}
{{ missing.x }}
{{ d.zzz }}|{{ d.zzz is defined }}|{{ d['zzz'] }}|{{ d.nested.x.y[1] }}|{{ d['nested']['x'].y.0 }}|{{ numbers.5 }}|{{ numbers[5] }}|{{ numbers[-1] }}|{{ s[0] }}|{{ s[-1] }}|{{ s[99] }}
{{ d.zzz.y }}
{{ missing() }}
{{ missing['a'] }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ missing < 1 }}
{{ missing == missing2 }} {{ missing != none }} {{ missing == none }} {{ missing|length }} {{ missing|list }} {{ missing|string }}| {{ missing|upper }}|{{ not missing }} {{ missing ~ 'x' }} {{ [missing] }} {{ missing|first }} {{ missing|join(',') }} {{ missing in [missing] }}
{{ missing|int }}
{{ missing|float }}
{{ missing|tojson }}
{{ -missing }}
{{ missing[0:1] }}
{{ missing * 2 }}
{{ 'x%sy' % missing }} {{ 'xy' % missing }}
{{ none_value.foo }} {{ none_value['foo'] }} {{ n.foo }} {{ n[0] }} {{ f.real }} {{ n.real }} {{ n.imag }} {{ yes.real }} {{ n.denominator }}
{{ none_value() }}
{{ n() }}
{{ s() }}
{{ none_value|length }}
{{ n|length }}
{{ numbers[1:3] }} {{ numbers[:2] }} {{ numbers[3:] }} {{ numbers[::2] }} {{ numbers[::-1] }} {{ numbers[-2:] }} {{ numbers[:-1] }} {{ numbers[10:] }} {{ numbers[4:1:-1] }} {{ numbers[1:][0] }} {{ (1, 2, 3)[1:] }} {{ numbers[:] }} {{ numbers[none:2:none] }}
{{ s[1:4] }}|{{ s[::-1] }}|{{ s[::2] }}|{{ s[-5:] }}|{{ s[7:] }}|{{ s[3:1] }}|{{ unicode[5:9] }}|{{ unicode[-3:] }}|{{ unicode[::-1] }}|{{ unicode[7:1:-2] }}|{{ unicode[4] }}|{{ unicode|length }}
{{ numbers[::0] }}
{{ numbers['a':] }}
{{ n[1:] }}
{{ d[1:] }}
{{ numbers[1, 2] }}|{{ d['a', 'b'] }}|{{ numbers['x'] }}|{{ numbers[none] }}|{{ numbers[1.0] }}|{{ numbers[true] }}|{{ d[[1]] }}
{{ d.items is defined }} {{ d['items'] }} {{ d.items()|list|length }} {{ d.keys()|list }} {{ d.values()|first }} {{ d.get('a') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.keys() }} {{ {'a': 1}.items() }} {{ {'a': 1}.values() }} {{ d|length }}
{{ d.get() }}
{{ d.get([]) }}
{{ d.get('a', default=1) }}
{{ d.copy() == d }} {{ {}.fromkeys([1, 2]) }} {{ dict.fromkeys('ab', 0) }} {{ dict(a=1, b=2) }} {{ dict([('x', 1)], y=2) }} {{ dict({'a': 1}, a=2) }} {{ dict() }}
{{ dict(1) }}
{{ dict({}, {}) }}
{{ 'a' in d.keys() }} {{ 2 in d.values() }} {{ ('a', 1) in d.items() }} {{ d.items()|length }} {{ d.items() is sequence }} {{ d.keys() is iterable }} {{ d.items()[0] }}
{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }},{% endfor %} {% for c in 'añ🙂' %}[{{ c }}]{% endfor %}
{% for a, b in [[1, 2], (3, 4), 'xy'] %}{{ a }}-{{ b }} {% endfor %}
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}
{% for a, b in [1] %}{{ a }}{% endfor %}
{% for x in 5 %}{{ x }}{% endfor %}
{% for x in none %}{{ x }}{% endfor %}
{% for x in missing %}{{ x }}{% else %}none{% endfor %}
{% for x in [] %}{{ x }}{% else %}empty{% endfor %} {% for x in [1] %}{{ x }}{% else %}empty{% endfor %}
{% for x in numbers %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }}/{{ loop.depth0 }}/{{ loop.previtem }}/{{ loop.nextitem }}; {% endfor %}
{% for x in numbers %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }} {% endfor %}
{% for x in words %}{{ loop.changed(x, 1) }}{{ loop.changed(x, 1) }} {% endfor %}
{% for x in [1] %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.zzz }}{{ loop['index'] }}{{ loop|length }}{{ loop }}{% endfor %}
{% for x in [1] %}{{ loop.cycle() }}{% endfor %}
{% for x in numbers if x > 1 %}{{ loop.index }}:{{ x }}{{ '' if loop.last else ',' }}{{ loop.length }}{% endfor %}
{% for x in numbers if x > 100 %}{{ x }}{% else %}nothing{% endfor %}
{% for x in numbers %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %} {% for x in numbers %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in [1] %}{% continue %}{% else %}else{% endfor %} {% for x in [1] %}{% break %}{% else %}else{% endfor %} {% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}
{% for x in [1, 2] %}{% for y in [] %}{% else %}{% break %}{% endfor %}{{ x }}{% endfor %}|
{% break %}
{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for x in [1] %}{% else %}{% break %}{% endfor %}
{% for x in [1, 2] %}{% set y %}a{% break %}{% endset %}{% endfor %}end
{% for x in tree recursive %}{{ x.v }}{% if x.c %}({{ loop(x.c) }}){% endif %}{{ loop.depth }}{{ ',' if not loop.last }}{% endfor %}
{% for x in [1] %}{{ loop([1]) }}{% endfor %}
{% for x in [[1, 2], [3]] %}{% set outer = loop %}{% for y in x %}{{ outer.index }}.{{ loop.index }} {% endfor %}{% endfor %}
{% for loop in [1] %}{% endfor %}
{% for x in [1] %}{% set loop = 1 %}{% endfor %}
{% for x in [1] %}{% for y in [1] %}{% endfor %}{{ loop.index }}{% endfor %}{{ loop }}
{% for x in range(3) %}{{ x }}{% endfor %}
{% set range = 5 %}{{ range }}
{% for m in messages if m.role != 'system' %}{{ loop.index0 }}{{ m.role }} {% endfor %}
{% for x in [1, 2, 3] %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for x in numbers|map('string') %}{{ loop.last }}{{ loop.length }} {% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}
{% for i in [1, 2] %}{% if i == 2 %}{{ y }}{% endif %}{% set y = i %}{{ y }}{% endfor %}{{ y }}
{% if yes %}{% set z = 1 %}{% else %}{% set z = 2 %}{% endif %}{{ z }} {% if no %}{% set w = 1 %}{% endif %}{{ w }}|{% if no %}{% set n = 99 %}{% endif %}{{ n }}
{% for i in [1] %}{% if no %}{% set n = 99 %}{% endif %}{{ n }}{% set n = 5 %}{{ n }}{% endfor %}{{ n }}
{% for i in [1] %}{% set n = n + 1 %}{{ n }}{% endfor %}{{ n }}
{% set n = n + 1 %}{{ n }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = [3, 4] %}{{ c }}{{ d2 }}{% set a, b = b, a %}{{ a }}{{ b }}
{% set a, b = 1 %}
{% set a, b = [1] %}
{% set t = 1, %}{{ t }}{% set u = (1) %}{{ u }}
{% set x %}block {{ n }}{% endset %}[{{ x }}]{% set y | upper | replace('A', 'b') %}abc{% endset %}{{ y }}
{% set x | replace(zzz, 'a') %}b{% endset %}
{% set ns = namespace(a=1, b='x') %}{{ ns.a }}{{ ns.b }}{% set ns.a = 2 %}{{ ns.a }}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.zzz }}{{ ns }}{{ ns['a'] }}{{ ns['q'] is defined }}
{% set ns = namespace({'k': 1}, l=2) %}{{ ns }}{% set ns.x, ns.y = 1, 2 %}{{ ns.x }}{{ ns.y }}{% set ns.items = 5 %}{{ ns.items }}
{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}{% set ns.l = [ns] %}{{ ns.l }}
{% set ns = namespace(_a=1) %}
{% set ns = namespace() %}{% set ns._a = 1 %}
{% set d.a = 5 %}
{% set zzz.a = 5 %}
{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' and not ns.found %}{% set ns.found = true %}{{ m.content|trim }}{% endif %}{% endfor %}{{ ns.found }}
{% set ns = namespace(n=0) %}{% for x in numbers if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ x }},{% endfor %}
{% set ns = namespace(t='') %}{% for x in words %}{% set ns.t = ns.t ~ x ~ ';' %}{% endfor %}{{ ns.t }}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c='z') }} {{ m(c=1, a=2) }} {{ m() }}|{{ m }}|{{ m.name }}{{ m.arguments }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}
{% macro m(a=b, b=1) %}{{ a }}|{{ b }}{% endmacro %}{{ m() }}
{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}hi {{ n }}{% endcall %}
{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}
{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}
{% macro m(caller) %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}g{% endmacro %}{{ f() }}
{% macro f() %}{{ late }}{% endmacro %}{% set late = 1 %}{{ f() }}{% set late = 2 %}{{ f() }}
{% macro f() %}{% set n = 99 %}{{ n }}{% endmacro %}{{ f() }}{{ n }}
{% macro f() %}{{ x }}{% endmacro %}{% for x in [1, 2] %}{{ f() }}{% endfor %}|
{% for x in [1, 2] %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% endfor %}
{% macro f() -%}  text  {%- endmacro %}[{{ f() }}]{{ f()|length }}
{% macro f(a, a) %}{% endmacro %}
{% macro f(a=1, b) %}{% endmacro %}
{% if yes %}{% macro f() %}1{% endmacro %}{% endif %}{{ f() }}
{{ f2() }}{% macro f2() %}{% endmacro %}
{% macro f(x) %}{{ x }}{% endmacro %}{{ f(*[1]) }}{{ f(**{'x': 2}) }}{{ f(*(3,)) }}
{% macro f(x) %}{{ x }}{% endmacro %}{{ f(x=1, **{'x': 2}) }}
{% macro f(x) %}{{ x }}{% endmacro %}{{ f(**[1]) }}
{{ range(1, b=2) }}
{{ dict(a=1, a=2) }}
{{ dict(**{'a': 1}, b=2) }}
{{ cycler(1, 2)(3) }}
{% filter upper %}abc {{ n }}{% endfilter %} {% filter replace('a', n|string)|upper %}abc{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}{% with n = n + 1 %}{{ n }}{% with m = n %}{{ m }}{% endwith %}{% endwith %}{{ n }}{% with %}x{% endwith %}
{% with a = 1, b = a %}{{ b }}{% endwith %}
{% generation %}gen {{ n }}{% set q = 1 %}{% endgeneration %}{{ q }}
{% raw %}{{ x }} {% if %} {# #}{% endraw %}|{%- raw -%}  a  {%- endraw -%}  |
{% raw %}
x
{% endraw %}
y
a{# comment #}b{#- c -#} d {# multi
line #} e
{# unterminated
{% if yes %}a{% endif %} {% if no %}a{% elif yes %}b{% else %}c{% endif %} {% if no %}a{% elif no %}b{% else %}c{% endif %} {% if missing %}a{% endif %}{% if 1, %}t{% endif %}
{% if %}{% endif %}
{% if yes %}
{% endif %}
{% for x in [1] %}
{% endfor %}{% endfor %}
{% else %}
{% unknown %}
{% set %}
{% set x = %}
{% set 1 = 2 %}
{% set true = 2 %}
{% set x.y.z = 2 %}
{{ }}
{{ 1 2 }}
{{ 1 + }}
{{ (1 }}
{{ [1, 2 }}
{{ {'a' 1} }}
{{ a..b }}
{{ a.'b' }}
{{ a b }}
{{ a | }}
{{ a is }}
{{ a is not }}
{{ 'a' is string is defined }}
{{ f(1, a=2, 3) }}
{{ f(*a, *b) }}
{{ x[1:2:3:4] }}
{{ x[:, 1] }}
{{ ) }}
{{ (] }}
{{ ! }}
{{ a ? b }}
{{ 1 = 2 }}
{{ not }}
{{ if }}|{{ and }}|{{ is }}
{{ "}}" }} {{ '%}' }} {{ {'a': {'b': {}}}['a'] }}
{% set x = {'a': {'b': 1}} %}{{ x.a.b }}
{%set x=1%}{{x}}{{-x-}}{{+x}}
  {% if yes %}
    text
  {% endif %}
end
  {%- if yes -%}
    text
  {%- endif -%}
end
  {%+ if yes %}
  text
  {%+ endif +%}
end
x  {% if yes %}  y  {% endif %}  z
{{ n }}  
   {{- n -}}   
x
{% if yes +%}
 a
{% endif %}
{% set a = 1 -%}

  b
line {# c #}
  {# c #}
next
{% for x in [1, 2] %}
  item {{ x }}
{% endfor %}
tail
{% for x in [1, 2] -%}
  item {{ x }}
{% endfor -%}
tail
{{ 'a' }}
{{ 'b' }}

{{ 'c' }}
{%- for x in [1,2] %}
{{ x }}
{%- endfor %}
{% print 1, 2 %}{% print s %}
{% if (yes
 and
 yes) %}multi{% endif %}
{% block b %}in {{ n }}{% set n = 1 %}{% endblock %}{{ n }}
{% block b %}{% endblock b %}x
{% block b %}{% endblock c %}x
{% include 'x' %}
{% if no %}{% include 'x' %}{% endif %}ok
{% import 'x' as y %}
{% extends 'x' %}
{{ 5|nofilter }}
{% if no %}{{ 5|nofilter }}{% endif %}ok
{% if yes %}{{ 5|nofilter }}{% endif %}ok
{% if no %}{% for x in [1] %}{{ x|nofilter }}{% endfor %}{% endif %}ok
{{ 5|nofilter if no else 'ok' }}{{ 5 is notest if no else 'ok' }}
{% macro f() %}{{ 5|nofilter }}{% endmacro %}ok
{{ 5 is notest }}
{{ s|upper }} {{ s|lower }} {{ s|title }} {{ s|capitalize }} {{ unicode|upper }} {{ unicode|lower }} {{ unicode|title }} {{ unicode|capitalize }} {{ 'ǆ'|title }} {{ 'ß'.title() }} {{ 'ﬁx'|capitalize }} {{ 'ΑΣ ΣΑ Σ'|lower }} {{ 'İ'.lower()|length }}
{{ "hello wOrld it's (foo) [bar] <baz> {x} a-b_c"|title }} {{ "hello wOrld it's 3rd x-y_z".title() }} {{ 'aBc1dE'.swapcase() }} {{ 'Straße'.casefold() }}
{{ 5|upper }} {{ none|upper }} {{ [1]|upper }} {{ true|lower }}
[{{ spaces|trim }}] [{{ spaces.strip() }}] [{{ spaces.lstrip() }}] [{{ spaces.rstrip() }}] [{{ 'xxaxx'|trim('x') }}] [{{ 'xyaxy'.strip('yx') }}] [{{ 'xya'.lstrip('xy') }}] [{{ 'ayx'.rstrip('xy') }}] [{{ '\u00a0\u2003a\x1f'.strip() }}] [{{ 'éaé'.strip('é') }}] [{{ 5|trim }}] [{{ spaces.strip(none) }}] [{{ spaces|trim(none) }}]
{{ s.strip(5) }}
{{ s.strip('a', 'b') }}
{{ s.upper(1) }}
{{ s.split() }} {{ s.split(',') }} {{ s.split('o', 1) }} {{ ' a  b '.split() }} {{ ' a  b '.split(' ') }} {{ 'a b c'.split(none, 1) }} {{ 'a  b  c '.split(maxsplit=1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.rsplit(none, 1) }} {{ 'a,b'.split(sep=',') }} {{ 'abc'.split('bc') }} {{ 'aXbX'.rsplit('X') }} {{ 'a b'.split(',', -1) }}
{{ 'a'.split('') }}
{{ 'a'.split(5) }}
{{ lines.splitlines() }} {{ 'a\x0bb\x1cc\u2028d\x85e\n\n'.splitlines() }} {{ 'a\r\nb\rc\n'.splitlines(true) }} {{ ''.splitlines() }} {{ '\n'.splitlines() }}
{{ s.startswith('Hell') }} {{ s.startswith(('x', 'H')) }} {{ s.endswith('d') }} {{ s.endswith(()) }} {{ s.startswith('W', 7) }} {{ s.endswith('Hello', 0, 5) }} {{ s.startswith('') }} {{ s.startswith('', 99) }} {{ unicode.startswith('ß', 4) }} {{ s.startswith('o', -4, -2) }}
{{ s.startswith(1) }}
{{ s.startswith(['a']) }}
{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ 'abc'.replace('', '-') }} {{ 'abc'.replace('', '-', 2) }} {{ 'aaa'.replace('aa', 'b') }} {{ s|replace('o', '0') }} {{ s|replace('o', '0', 1) }} {{ 5|replace(5, 6) }} {{ 'abc'.replace('x', 'y') }} {{ 'a.b'|replace('.', '') }}
{{ s.replace('a') }}
{{ s.replace(1, 2) }}
{{ s.find('o') }} {{ s.find('o', 5) }} {{ s.find('z') }} {{ s.rfind('o') }} {{ s.index('W') }} {{ s.rindex('l') }} {{ s.count('l') }} {{ s.count('') }} {{ s.count('l', 4) }} {{ s.find('') }} {{ s.find('', 99) }} {{ s.rfind('') }} {{ unicode.find('你') }} {{ unicode.index('ñ') }} {{ unicode.rfind('Ο') }} {{ unicode.count('Ο') }} {{ s.find('o', -5) }} {{ s.find('o', 0, 3) }} {{ 'aaaa'.count('aa') }}
{{ s.index('z') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join('abc') }} {{ '-'.join(d) }} {{ '|'.join([]) }} {{ ','.join(words|map('upper')) }}
{{ ','.join([1]) }}
{{ ','.join(5) }}
{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('=') }} {{ 'abc'.rpartition('=') }} {{ 'prefix_x'.removeprefix('prefix_') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'x'.removeprefix('y') }} {{ 'x'.removesuffix('') }}
{{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ '+4'.zfill(1) }} [{{ 'ab'.ljust(5) }}] [{{ 'ab'.rjust(5, '*') }}] [{{ 'ab'.center(5) }}] [{{ 'abc'.center(6, '-') }}] [{{ 'ab'|center(7) }}] [{{ 'é'.ljust(3, 'ñ') }}] [{{ 'abc'.center(2) }}] [{{ 'a\tbc\td'.expandtabs() }}] [{{ '\ta'.expandtabs(3) }}]
{{ 'a'.ljust(5, 'xx') }}
{{ 'abc'.isalpha() }}{{ 'ab1'.isalnum() }}{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ '²'.isdecimal() }}{{ '½'.isnumeric() }}{{ ' \t'.isspace() }}{{ ''.isspace() }}{{ 'ABC'.isupper() }}{{ 'aBc'.islower() }}{{ 'Abc Def'.istitle() }}{{ 'a_1'.isidentifier() }}{{ '1a'.isidentifier() }}{{ 'é'.isascii() }}{{ 'a\n'.isprintable() }}{{ '你'.isalpha() }}{{ 'A1'.isupper() }}{{ '1'.isupper() }}{{ ''.isalpha() }}{{ '三'.isnumeric() }}{{ 'a_'.isalnum() }}
{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 5 is lower }} {{ 'A' is lower }}
{{ '{} {}'.format(1, 'a') }} {{ '{0} {1} {0}'.format('a', 'b') }} {{ '{x} {y}'.format(x=1, y=2) }} {{ '{{}} {}'.format(1) }} {{ '{!r} {!s}'.format('a', 'b') }} {{ '{a.real} {b[0]} {b[1]} {c[k]}'.format(a=5, b=[1, 2], c={'k': 'v'}) }} {{ '{}'.format(none) }} {{ '{}'.format([1]) }} {{ '{}'.format(1.5) }}
{{ '[{:>5}] [{:<5}] [{:^5}] [{:*^7}] [{:5}] [{:.2}] [{:05d}] [{:+d}] [{: d}] [{:x}] [{:#x}] [{:#o}] [{:b}] [{:X}] [{:,}] [{:_}]'.format('a', 'b', 'c', 'd', 'e', 'fgh', 42, 5, 5, 255, 255, 8, 5, 255, 1234567, 1234567) }}
{{ '[{:.2f}] [{:8.3f}] [{:e}] [{:.3e}] [{:g}] [{:.3g}] [{:%}] [{:.1%}] [{:+.1f}] [{:08.2f}] [{:,.2f}] [{:f}] [{}] [{:>8}] [{:.0f}] [{:10}] [{:.3}] [{:n}]'.format(3.14159, 2.5, 12345.678, 12345.678, 0.0001, 1234567.0, 0.5, 0.256, 2.25, -3.14159, 1234567.891, 1e10, 1e20, 1.5, 2.5, 1.5, 2.0, 5) }}
{{ '[{:{}}] [{:{w}.{p}f}]'.format('a', 5, 3.14159, w=8, p=2) }} {{ '{:5}|{:<5}|{:^5}'.format(42, 42, 42) }} {{ '{:5}'.format(true) }} {{ '{:d}'.format(true) }} {{ '{:010,}'.format(1234567) }} {{ '{:=+6}'.format(5) }} {{ '{:é>4}'.format('a') }}
{{ '{} {2}'.format(1, 2, 3) }}
{{ '{'.format(1) }}
{{ '}'.format(1) }}
{{ '{1}'.format(1) }}
{{ '{x}'.format(1) }}
{{ '{:d}'.format('a') }}
{{ '{:d}'.format(1.5) }}
{{ '{:>5}'.format(none) }}
{{ '{.zzz}'.format(1) }}
{{ '{.zzz.y}'.format(1) }}
{{ '{0.__class__}'.format('x') }}
{{ '{0.__class__.__mro__}'.format('x') }}
{{ '{a[b]}'.format_map({'a': {'b': 1}}) }}
{{ '%s %s' % ('a', 1) }} {{ '%d %5d %-5d| %05d %+d %x %X %o %#x' % (1, 2, 3, 4, 5, 255, 255, 8, 255) }} {{ '%.2f %8.3f %e %g %5s %-5s| %.1s %%' % (3.14159, 2.5, 12345.678, 0.0001, 'a', 'b', 'xyz') }} {{ '%s' % 5 }} {{ '%s' % [1] }} {{ '%r' % 'a' }} {{ '%(a)s %(b)d' % {'a': 1, 'b': 2} }} {{ '%c%c' % ('a', 66) }} {{ '%*d' % (5, 42) }} {{ '%d' % 3.7 }} {{ '%s' % none }} {{ '%i' % true }} {{ '%5.1f|%-8.2e|' % (2.25, 12345.6789) }} {{ '%.3d' % 5 }} {{ 'x' % {} }} {{ '%s' % ((1, 2),) }}
{{ '%s %s'|format('a', 'b') }} {{ '%(x)s'|format(x=1) }} {{ '%d%%'|format(50) }}
{{ '%s' % (1, 2) }}
{{ '%s %s' % 1 }}
{{ '%d' % 'a' }}
{{ '%z' % 1 }}
{{ '%' % 1 }}
{{ 'abc' % 1 }}
{{ '%(a)s' % {} }}
{{ '%x' % 1.5 }}
{{ '%s'|format(1, x=2) }}
{{ numbers|sort }} {{ numbers|sort(reverse=true) }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ people|sort(attribute='age')|map(attribute='name')|join(',') }} {{ people|sort(attribute='age,name', reverse=true)|map(attribute='name')|join(',') }} {{ [[2, 1], [1, 2]]|sort }} {{ [[2, 1], [1, 2]]|sort(attribute=1) }} {{ 'cab'|sort }} {{ d|sort }} {{ [true, 0, 2.5]|sort }} {{ nothing|sort }}
{{ mixed|sort }}
{{ people|sort }}
{{ people|sort(attribute='boss') }}
{{ people|sort(attribute='boss.name') }}
{{ words|unique|list }} {{ words|unique(true)|list }} {{ ['a', 'A', 'b']|unique|list }} {{ ['a', 'A']|unique(case_sensitive=true)|list }} {{ [1, 1.0, true, '1']|unique|list }} {{ people|unique(attribute='city')|map(attribute='name')|list }}
{{ [[1]]|unique|list }}
{{ numbers|min }} {{ numbers|max }} {{ words|min }} {{ words|max }} {{ ['b', 'A']|min }} {{ ['b', 'A']|min(case_sensitive=true) }} {{ people|max(attribute='age') }} {{ nothing|min }} {{ nothing|max is defined }} {{ numbers|sum }} {{ nothing|sum }} {{ people|sum(attribute='age') }} {{ numbers|sum(start=10) }} {{ [[1], [2]]|sum(start=[]) }} {{ [1.5, 2]|sum }}
{{ ['a']|sum }}
{{ ['a']|sum(start='') }}
{{ [1, 'a']|max }}
{{ numbers|first }} {{ numbers|last }} {{ s|first }} {{ s|last }} {{ unicode|last }} {{ nothing|first }} {{ nothing|last is defined }} {{ d|first }} {{ d|last }} {{ d.values()|list|last is mapping }} {{ range|first }}
{{ words|map('upper')|last }}
{{ 5|first }}
{{ numbers|reverse|list }} {{ s|reverse }} {{ unicode|reverse }} {{ (1, 2)|reverse|list }} {{ d|reverse|list }} {{ words|map('upper')|reverse|list }}
{{ 5|reverse }}
{{ numbers|join }} {{ numbers|join(', ') }} {{ words|join('-') }} {{ people|join(',', attribute='name') }} {{ 'abc'|join('.') }} {{ [none, true, missing, 1.5]|join('|') }} {{ numbers|join(0) }} {{ d|join(',') }}
{{ 5|join }}
{{ words|map('upper')|list }} {{ words|map('replace', 'a', 'o')|list }} {{ people|map(attribute='name')|list }} {{ people|map(attribute='boss.name', default='-')|list }} {{ people|map(attribute='tags.0')|list }} {{ people|map(attribute='tags', default='x')|list }} {{ numbers|map('string')|join(',') }} {{ [[1, 2], [3]]|map('length')|list }} {{ [[1, 2], [3]]|map('first')|list }} {{ 'abc'|map('upper')|join }} {{ nothing|map('nofilter')|list }} {{ ['a=%s']|map('format', 5)|list }} {{ words|map('default', default_value='x')|list }}
{{ words|map('nofilter') is iterable }}
{{ words|map('nofilter')|list }}
{{ words|map|list }}
{{ words|map(attribute='a', foo=1)|list }}
{{ 5|map('upper')|list }}
{{ people|map(attribute='zzz.y')|list }}
{{ numbers|select('odd')|list }} {{ numbers|select('>', 1)|list }} {{ numbers|reject('greaterthan', 1)|list }} {{ mixed|select('string')|list }} {{ mixed|reject('none')|list }} {{ mixed|select|list }} {{ [0, 1, '', 'a']|select|list }} {{ [0, 1, '', 'a']|reject|list }} {{ people|selectattr('age', 'gt', 25)|map(attribute='name')|list }} {{ people|selectattr('boss')|map(attribute='name')|list }} {{ people|rejectattr('boss')|map(attribute='name')|list }} {{ people|selectattr('boss', 'defined')|map(attribute='name')|list }} {{ people|selectattr('tags', 'defined')|selectattr('tags.0', 'equalto', 'x')|list|length }} {{ messages|selectattr('role', 'in', ['user', 'tool'])|map(attribute='role')|list }} {{ messages|rejectattr('role', 'eq', 'system')|list|length }} {{ numbers|select('in', [1, 2])|list }} {{ numbers|select('divisibleby', 2)|list }}
{{ numbers|select('notest')|list }}
{{ people|selectattr()|list }}
{{ people|selectattr('zzz.y')|list }}
{{ nothing|selectattr()|list }}
{{ numbers|select('odd') is sequence }} {{ numbers|select('odd') is iterable }} {{ (numbers|select('odd')) is mapping }} {{ (numbers|select('odd'))[0] }}|{{ 'yes' if numbers|select('none') else 'no' }}
{{ numbers|select('odd')|length }}
{{ numbers|select('odd')|tojson }}
{% set g = numbers|select('odd') %}{{ g|list }}{{ g|list }}
{% for c, ps in people|groupby('city') %}{{ c }}:{{ ps|map(attribute='name')|join(',') }};{% endfor %}{% for g in people|groupby('age') %}{{ g.grouper }}={{ g.list|length }} {% endfor %}{{ people|groupby('boss.name', default='none')|map('first')|list }}{{ people|groupby('city', case_sensitive=true)|map(attribute='grouper')|list }}{{ [{'a': 1}]|groupby('a') }}
{{ d|dictsort|map('first')|list }} {{ {'b': 1, 'A': 3, 'c': 2}|dictsort }} {{ {'b': 1, 'A': 3}|dictsort(true) }} {{ {'b': 1, 'A': 3}|dictsort(false, 'value') }} {{ {'b': 1, 'A': 3}|dictsort(reverse=true) }} {{ {}|dictsort }} {{ {'b': 1, 'a': 2}|dictsort(by='key') }}
{{ {'b': 1, 2: 3}|dictsort }}
{{ {}|dictsort(by='x') }}
{{ [1]|dictsort }}
{% for k, v in d|items %}{{ k }} {% endfor %}{{ missing|items|list }}{{ {'a': 1}|items|list }}
{{ [1]|items|list }}
{{ none|items|list }}
{{ numbers|batch(2)|list }} {{ numbers|batch(2, 'x')|list }} {{ numbers|batch(10)|list }} {{ nothing|batch(2)|list }} {{ numbers|slice(2)|list }} {{ numbers|slice(3, 'x')|list }} {{ numbers|slice(7)|list }} {{ 'abc'|batch(2)|map('join')|list }}
{{ numbers|slice(0)|list }}
{{ 'abc'|list }} {{ d|list }} {{ (1, 2)|list }} {{ range|list }} {{ missing|list }}
{{ 5|list }}
{{ missing|default('x') }} {{ missing|d('x') }} {{ none|default('x') }} {{ none|default('x', true) }} {{ ''|default('x', boolean=true) }} {{ 0|default(5) }} {{ missing|default }} {{ d.q|default('z') }} {{ missing|default(default_value=1) }}
{{ missing.x|default('x') }}
{{ '42'|int }} {{ '4.7'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 4.9|int }} {{ -4.9|int }} {{ true|int }} {{ none|int }} {{ '0x1f'|int(base=16) }} {{ 'ff'|int(0, 16) }} {{ '0b11'|int(base=2) }} {{ ' 7 '|int }} {{ '1_000'|int }} {{ '1e3'|int }} {{ 'inf'|int }} {{ [1]|int }} {{ ''|int }} {{ '-5'|int }} {{ '0o17'|int(base=0) }} {{ '12'|int(base=99) }}
{{ '4.5'|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ 5|float }} {{ true|float }} {{ none|float }} {{ 'inf'|float }} {{ '-Infinity'|float }} {{ 'nan'|float }} {{ '1e5'|float }} {{ ' 2.5 '|float }} {{ '1_0.5'|float }} {{ '.5'|float }} {{ '5.'|float }} {{ '1__0'|float }} {{ [1]|float }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 42.55|round(1) }} {{ 42.55|round(1, 'floor') }} {{ 42.51|round(1, 'ceil') }} {{ 5|round }} {{ 5|round(2) }} {{ 1234|round(-2) }} {{ 1250|round(-2) }} {{ 1350|round(-2) }} {{ 1234.5|round(-2) }} {{ -2.5|round }} {{ (-2.5)|round }} {{ 42.7|round|int }} {{ true|round }} {{ 5|round(0, 'floor') }} {{ 0.5|round }} {{ 1e20|round(2) }}
{{ 5|round(1, 'x') }}
{{ 'a'|round }}
{{ -5|abs }} {{ (-5.5)|abs }} {{ true|abs }}
{{ 'a'|abs }}
{{ s|length }} {{ numbers|count }} {{ d|length }} {{ ''|length }} {{ '🙂'|length }}
{{ 5|string + 'x' }} {{ none|string }} {{ [1]|string|length }} {{ 1.0|string }}
{{ s|wordcount }} {{ unicode|wordcount }} {{ "a-b c_d e'f"|wordcount }} {{ ''|wordcount }}
{{ s|truncate(5) }} {{ s|truncate(5, true) }} {{ s|truncate(8, false, '~', 0) }} {{ s|truncate(5, true, '', 0) }} {{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, True) }} {{ 'foo bar baz qux'|truncate(11) }} {{ 'foo bar baz qux'|truncate(11, False, '...', 0) }} {{ 'ééééééééééééééé'|truncate(6, true, '…', 0) }}
{{ s|truncate(2) }}
{{ lines|indent }}|{{ lines|indent(2, true) }}|{{ lines|indent(2, blank=true) }}|{{ lines|indent('> ', first=true, blank=true) }}|{{ 'a'|indent }}|{{ ''|indent(2, true) }}|{{ 'a\r\nb\rc'|indent(1) }}|{{ '\n'|indent(1, true, true) }}|{{ 'a\u2028'|indent(1) }}|{{ 'a\r'|indent(1, blank=true) }}|
{{ 5|indent }}
{{ missing|indent }}
{{ markup|e }} {{ markup|escape|e }} {{ markup|escape|forceescape }} {{ 5|e }} {{ markup|safe }} {{ markup|safe|e }} {{ (markup|e)|length }} {{ [markup|safe] }} {{ markup|e is escaped }} {{ markup is escaped }}
{{ ('<b>'|safe) + '<i>' }} {{ '<i>' + ('<b>'|safe) }} {{ ('<b>'|safe) ~ '<i>' }} {{ ('<b>'|safe) * 2 + '<' }} {{ ('<b>'|safe)|upper + '<' }} {{ ('a<'|safe).replace('a', '<') }} {{ ('<'|safe).join(['<', '>'|safe]) }} {{ ['<'|safe, '<']|join('<') }} {{ ('%s'|safe) % '<' }} {{ ('{}'|safe).format('<') }} {{ ('<b>'|safe)|trim + '<' }} {{ ('<b>'|safe)[0] + '<' }} {{ ('<b>'|safe)|string + '<' }} {{ ('<b>'|safe)|replace('b', '<') }} {{ ('<b>'|safe)|tojson }} {{ ('<b>'|safe) == '<b>' }} {{ ('a b'|safe).split() }} {{ ('<b>'|safe) is string }} {{ {('<'|safe): 1}['<'] }} {{ numbers|tojson|safe + '"' }}
{{ ('<b>'|safe) + 1 }}
{{ {'class': 'a b', 'id': none, 'x': missing, 'data-n': 5, 'q': '<"'}|xmlattr }}|{{ {'a': 1}|xmlattr(false) }}|{{ {}|xmlattr }}
{{ {'a b': 1}|xmlattr }}
{{ 'a b/c?d=é&f'|urlencode }} {{ {'a b': 'c/d', 'e': 5}|urlencode }} {{ [('a', 1), ('b', 'x y')]|urlencode }} {{ 5|urlencode }}
{{ 100|filesizeformat }} {{ 1|filesizeformat }} {{ 1000|filesizeformat }} {{ 1024|filesizeformat(true) }} {{ 1500000|filesizeformat }} {{ 123456789012|filesizeformat }} {{ '2048'|filesizeformat(binary=true) }} {{ 1e30|filesizeformat }} {{ 999|filesizeformat }}
{{ people|attr('x') is defined }} {{ s|attr('upper') is callable }} {{ d|attr('a') is defined }} {{ (s|attr('upper'))() }} {{ s|attr('__class__') }}
{{ numbers|tojson }} {{ d|tojson }} {{ mixed|tojson }} {{ s|tojson }} {{ unicode|tojson }} {{ quotes|tojson }} {{ none|tojson }} {{ true|tojson }} {{ 1.0|tojson }} {{ tiny|tojson }} {{ '\x00\x1f\x7f\u2028\b\f'|tojson }} {{ (1, 2)|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ 'inf'|float|tojson }} {{ '-inf'|float|tojson }} {{ 'nan'|float|tojson }}
{{ unicode|tojson(ensure_ascii=true) }} {{ '\x7f'|tojson(ensure_ascii=true) }} {{ d|tojson(indent=2) }} {{ mixed|tojson(indent=4) }} {{ [[], {}, [1]]|tojson(indent=1) }} {{ numbers|tojson(separators=(',', ':')) }} {{ d|tojson(separators=[', ', '='], indent=1) }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true) }} {{ [1]|tojson(indent=0) }} {{ [1]|tojson(indent='--') }} {{ [1]|tojson(indent=-1) }} {{ [1, 2]|tojson(indent=none) }} {{ markup|tojson }} {{ d|tojson(false, 1) }}
{{ [missing]|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ {1: 1, 'a': 2}|tojson(sort_keys=true) }}
{{ namespace()|tojson }}
{{ d.items()|tojson }}
{{ d.keys()|tojson }}
{{ numbers|tojson(indent=1.5) }}
{{ numbers|tojson(separators=',') }}
{{ numbers|tojson(foo=1) }}
{{ 1 is odd }}{{ 2 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}{{ none is none }}{{ yes is boolean }}{{ yes is true }}{{ no is false }}{{ 1 is true }}{{ 1 is integer }}{{ true is integer }}{{ 1.0 is float }}{{ 1 is number }}{{ true is number }}{{ 's' is number }}{{ 's' is string }}{{ d is mapping }}{{ numbers is sequence }}{{ d is sequence }}{{ 's' is sequence }}{{ 5 is sequence }}{{ 5 is iterable }}{{ s is iterable }}{{ missing is iterable }}{{ missing is sequence }}{{ s.upper is callable }}{{ dict is callable }}{{ s is callable }}{{ missing is callable }}
{{ 1 is eq 1 }}{{ 1 is equalto(1) }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 1 is le 1 }}{{ 1 is gt 0 }}{{ 1 is ge 2 }}{{ 1 is greaterthan 0 }}{{ 1 is lessthan 0 }}{{ 1 is in [1] }}{{ 1 is not in [1] }}{{ 5 is sameas 5 }}{{ none is sameas none }}{{ s is sameas s }}{{ 'upper' is filter }}{{ 'zzz' is filter }}{{ 'odd' is test }}{{ 'zzz' is test }}{{ 1 is not odd }}{{ not 1 is odd }}
{{ 'a' is odd }}
{{ '1' is lt 2 }}
{{ 1 is odd(2) }}
{{ numbers is defined and numbers|length > 2 }} {{ x is not defined or x }} {{ 'a' if x is defined else 'b' }} {{ 1 is odd and 2 is even }} {{ [1 is odd, 2] }} {{ (1 is odd) + 1 }}
{{ ''.__class__ }}|{{ [].__len__ }}|{{ d.__class__ }}|{{ n.__add__ }}|{{ ns.__class__ }}|{{ missing.__class__ }}|{{ s._x }}|{{ d.__zzz__ }}|{{ ''.__class__ is defined }}|{{ missing._undefined_name }}
{{ ''.__class__.__mro__ }}
{{ ''.__class__() }}
{{ ''['__class__']['__mro__'] }}
{{ [].append(1) }}
{{ [].append }}|{{ {}.update }}|{{ [].pop is defined }}|{{ d.pop is defined }}
{{ d.pop('a') }}
{{ d.update({}) }}
{{ d.setdefault('a', 1) }}
{{ [3, 1].sort() }}
{{ s.format.__globals__ }}
{{ range.__globals__ }}
{{ dict.__globals__ }}|{{ joiner.__init__ }}
{{ joiner.__init__.__globals__ }}
{{ (s|attr('__class__')).mro() }}
{{ namespace.__init__.__globals__ }}
{{ missing.__zzz__ }}
{% macro m() %}{% endmacro %}{{ m.__globals__ }}|{{ m._func }}|{{ m._environment }}
{% macro m() %}{% endmacro %}{{ m.__globals__.x }}
{{ raise_exception('boom') }}
{{ raise_exception() }}
{{ strftime_now('%Y-%m-%d %H:%M:%S') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%A, %B %e, %Y') }} {{ strftime_now('%-d/%-m/%y %I:%M %p %j %a %U %W %V %G %u %w %C %D %F %T %R %%') }} {{ strftime_now('') }}
{{ strftime_now() }}
{{ strftime_now(5) }}
{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.current }}{{ c.pos }}{{ c.items }}
{{ cycler() }}
{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c{% set k = joiner() %}{{ k() }}x{{ k() }}y
{{ numbers.count(1) }} {{ numbers.index(2) }} {{ (1, 2, 1).count(1) }} {{ numbers.copy() }} {{ words.index('apple', 2) }}
{{ numbers.index(99) }}
{{ n.bit_length() }} {{ f.is_integer() }} {{ (2.0).is_integer() }} {{ 5.bit_length() }}
{{ messages[0]['role'] }} {{ messages[-1].content }} {{ messages[2].tool_calls[0].function.arguments|tojson }} {{ messages[2]['tool_calls'][0]['function']['arguments']['b'] }} {{ messages[1:]|length }} {{ messages|map(attribute='content')|select('string')|map('trim')|join('/') }} {{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first }} {{ messages[0].role == 'system' and messages[0].content is string }}
{%- for message in messages %}{%- if message['role'] == 'user' %}{{- '<|user|>' + message['content'] + '</s>' }}{%- elif message['role'] == 'assistant' %}{%- if message.tool_calls %}{%- for tc in message.tool_calls %}{{- '<call>' + tc.function.name + ': ' + tc.function.arguments|tojson + '</call>' }}{%- endfor %}{%- else %}{{- message.content }}{%- endif %}{%- else %}{{- '<|' + message.role + '|>' + message.content }}{%- endif %}{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}
{% set content = messages[1].content %}{% if '{{' in content %}{{ content.split('{{')[-1].lstrip() }}{% endif %}
{% set first, rest = messages[0], messages[1:] %}{{ first.role }} {{ rest|length }}
{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages|length }}
{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% set i = (messages|length - 1) - loop.index0 %}{% if ns.last == -1 and m.role == 'user' %}{% set ns.last = i %}{% endif %}{% endfor %}{{ ns.last }}
{% macro render(x, depth=0) %}{% if x is mapping %}{ {%- for k, v in x|dictsort %}{{ k }}: {{ render(v, depth + 1) }}{% if not loop.last %}, {% endif %}{% endfor -%} }{% elif x is iterable and x is not string %}[{% for v in x %}{{ render(v, depth + 1) }};{% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}{{ render(d) }}{{ render(messages[2]) }}
{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }} {{ 9223372036854775807 // -1 }}
{{ '\u00df' }} {{ 'a\
b' }} {{ 'x' 'y'|upper }} {{ ('x' 'y')|upper }}
{{ d|length if d else 'none' }}{{ 'x' ~ (1 if yes else 2) ~ 'y' }}
{{ [1, [2, [3]]][1][1][0] }} {{ {'a': {'b': [1, {'c': 5}]}}.a.b[1].c }} {{ (1, (2, 3))[1][0] }} {{ 'abc'[1:][0] }} {{ [x for x in y] }}
{{ lambda: 1 }}
{{ f(x) if f is defined and f is callable else 'no' }}
{{ n.__class__ }}{{ 1.__class__ }}
{{ 'a' 'b' if yes }}{{ 'a' if yes else 'b' ~ 'c' }}{{ -n if yes }}{{ not yes if yes else 1 }}
{{ "a" == 'a' and 'b' != "c" }} {{ 1 == 1 == 1 }} {{ 1 < 3 > 2 != 5 }} {{ 1 in [1] in [[1]] }} {{ 'a' not in 'b' and not 'a' in 'b' }} {{ (1 < 2) in [true] }}
{{ s is string and s is not none }} {{ (s is string) ~ 'x' }} {{ s is string ~ 'x' }}
{{ numbers is defined is true }}
{{ 5 is divisibleby 5 and 6 is divisibleby (4) }}
{{ range }}{{ range[0] }}
{% set dict = 5 %}{{ dict }}
{% set x = 5 %}{% set y = x|default(3) %}{% if x > 3 %}{% set y = 10 %}{% endif %}{{ y }}
{% for i in numbers %}{% set found = i %}{% endfor %}{{ found }}{% for i in numbers %}{% if i == 2 %}{% set q = i %}{% endif %}{{ q }}{% endfor %}
{% for i in [1, 2] %}{% for j in [1, 2] %}{{ i * j }}{% if j == i %}{% continue %}{% endif %},{% endfor %};{% endfor %}
{% for i in [3, 1] %}{% for j in range %}{{ j }}{{ loop.parent }}{% endfor %}{% endfor %}
{% set a = [1] %}{% set b = a + [2] %}{{ a }}{{ b }}{% set c = a %}{{ c == a }}{{ c is sameas a }}
{{ 'x' * 3 ~ 'y' * 2 }} {{ '%s' % 'a' ~ 'b' }} {{ 10 - 2 - 3 }} {{ 100 / 10 / 2 }} {{ 2 * 3 % 4 }} {{ 7 // 2 * 2 }} {{ 1 - -1 }} {{ 1 +-+ 2 }}
{{ d.items()|map('first')|list }} {{ d.values()|list|length }} {{ d.items()|list|first }} {{ d.keys()|sort }} {{ d.keys()|join(',') }} {{ d.keys()|length }} {{ d.keys()[0] }} {{ {'a': 1}.keys() == {'a': 2}.keys() }}
{{ 1 if d.keys() else 2 }}{{ 1 if {}.keys() else 2 }}{{ 1 if range else 2 }}
'''

# Templates whose line ends or size matter, one per entry.
MORE = [
    "",
    "\n",
    "\n\n",
    "a\n",
    "a\n\n",
    "a\r\nb\rc\r\n",
    "{{ 'x\r\ny' }}",
    "{{ n }}\n",
    "{% if yes %}\r\n  a\r\n{% endif %}\r\nb",
    "{% if yes %}\n\n  a\n  {% endif %}\n\nb",
    "   {% if yes %}a{% endif %}   \n",
    "\t {%- if yes %} a {% endif -%}\n\n b",
    "a {#- x -#} b",
    "a\n  {# x #}\n  b",
    "a\n  {#+ x +#}\n  b",
    "a {{- ' b ' -}} c",
    "a {{+ ' b ' }} c",
    "\u00a0{% if yes %}a{% endif %}",
    "\u00a0{%- if yes %}a{% endif -%}\u2003b",
    "{% raw %}\n a\n{% endraw %}\nb",
    "  {% raw %}  a\n  {% endraw %}\nb",
    "{%- raw -%} {{ a }} {%- endraw -%} b",
    "{% raw %}{% endraw",
    "{% raw %}{% if %}{%endraw%}x",
    "{% rawx %}",
    "{{ 1 }}{{ 2 }}\n\n{{ 3 }}\n",
    "{% set x %}\n  a\n{% endset %}\n[{{ x }}]",
    "{%if yes%}a{%endif%}",
    "{%-if yes-%}a{%-endif-%}",
    "{{'a'}}{{\n'b'\n}}",
    "{{ {'a':1}}}",
    "{{ {'a':{'b':1}} }}",
    "{{ '{{' }}{{ '}}' }}{{ \"{%\" }}",
    "{{ 1 }",
    "{{ 1",
    "{% if yes",
    "{%",
    "{{",
    "{#",
    "{",
    "}} %} #}",
    "{ {{ n }} } { % {",
    "{{{n}}}",
    "{{ {n} }}",
    "{% if yes: %}a{% else: %}b{% endif %}",
    "{% for x in [1]: %}a{% endfor %}",
    "{% for x in [1, 2] %}\n{{ x }}\n{% else %}\nno\n{% endfor %}\n",
    "{% macro m() %}\n  a\n{% endmacro %}\n[{{ m() }}]",
    "{% for x in [1,2] -%}\n  {{ x }}\n{%- endfor %}",
    "line 1\n    {%- set x = 1 %}\nline 2",
    "{%+ set x = 1 %}\nx",
    "  {%+ set x = 1 +%}  \nx",
    "{% set x = 1 %}  \nx",
    "é{% set ñ = 1 %}{{ ñ }}",
    "{{ 'a' }} \n {{ 'b' }}",
    "{% if yes %}x{% endif yes %}",
    "{% for x in [1] %}{% endfor x %}",
    "{{ x.y.z|default('q') }}",
    "{{ 1;2 }}",
    "{% set x = 1; %}",
    "{{ '" + "ab" * 300 + "'|length }}",
    "{{ " + " + ".join(["1"] * 300) + " }}",
    "{{ " + " ~ ".join(["'a'"] * 300) + " }}",
    "{{ " + " or ".join(["0"] * 300) + " }}",
    "{{ 'a'" + "|upper|lower" * 150 + " }}",
    "{{ d" + ".copy()" * 50 + ".a }}",
    "{% if no %}a" + "".join("{% elif n == " + str(i) + " %}" + str(i) for i in range(100)) + "{% endif %}",
    "{{ ('ab' * 60) in ('ab' * 500 + 'c') }}{{ ('ab' * 500 + 'c').find('b' * 2) }}{{ ('ab' * 500 + 'c').find('ab' * 40 + 'c') }}{{ ('ab' * 500).rfind('ba' * 30) }}{{ ('ab' * 500).count('ab' * 20) }}{{ ('xab' * 100).split('ab' * 1)|length }}",
    "{% set ns = namespace(d={}) %}{% for i in range_of_names %}{% endfor %}{{ dict.fromkeys('abcdefghijklmnopqrstuvwxyz', 1).z }}",
]


def templates():
    return [line for line in TEMPLATES.strip("\n").split("\n")] + grouped() + MORE


def grouped():
    """Runs of lines of TEMPLATES that belong together: white space across lines."""
    lines = TEMPLATES.strip("\n").split("\n")
    return ["\n".join(lines[i : i + 4]) for i in range(0, len(lines) - 4, 3) if all("raise" not in x for x in lines[i : i + 4])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", metavar="DRIVER")
    args = parser.parse_args()
    sources = list(dict.fromkeys(templates()))
    results = [template_parity.reference(source, VARIABLES, NOW) for source in sources]
    if args.check:
        driver = template_parity.Driver(args.check)
        wrong = 0
        for source, theirs in zip(sources, results):
            ours = driver.render(source, VARIABLES, NOW)
            if not template_parity.agree(theirs, ours):
                wrong += 1
                print(f"DIFFERENT {source!r}\n  jinja2: {theirs!r}\n  ours:   {ours!r}")
        print(f"{len(sources)} templates, {wrong} different")
        sys.exit(wrong != 0)
    lines = [json.dumps({"variables": VARIABLES, "now": NOW}, ensure_ascii=False)]
    for source, result in zip(sources, results):
        line = {"template": source, **({"ok": result["ok"]} if "ok" in result else {"error": True})}
        lines.append(json.dumps(line, ensure_ascii=False))
    path = pathlib.Path(__file__).parent.parent / "tests/golden/templates/language.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print(f"{path}: {len(sources)} templates, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

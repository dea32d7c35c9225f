"""Writes what transformers renders for the templates in this folder.

    pip install transformers jinja2
    python make_expected.py
"""

import json
from datetime import datetime
from pathlib import Path
from unittest import mock

from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent

TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather at a place.", "parameters": {
    "type": "object", "properties": {"place": {"type": "string", "enum": ["Paris", "São Paulo"]}, "days": {"type": "integer"}}, "required": ["place"]}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": {
    "name": "weather", "arguments": {"place": "Paris", "days": 2, "exact": True, "note": None}}}]}

CONVERSATIONS = {
    "one": [{"role": "user", "content": "  Who are you?  \n"}],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi <b>&'\"\n\n"}],
    "turns": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": " 2 \n"}, {"role": "user", "content": "Sure? 漢😀"}],
    "thought": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}],
    "not alternating": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "unknown role": [{"role": "user", "content": "a"}, {"role": "stop", "content": "b"}, {"role": "user", "content": "c"}],
    "parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is it? "}]}],
    "call": [{"role": "user", "content": "Weather?"}, CALL, {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": "{\"t\": 20}"},
             {"role": "assistant", "content": "20 degrees."}, {"role": "user", "content": "Thanks"}],
}

VARIABLES = [
    {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True},
    {"add_generation_prompt": False, "enable_thinking": False, "tools": [TOOL], "bos_token": "<s>", "eos_token": "</s>"},
    {"add_generation_prompt": True, "enable_thinking": False, "date_string": "1 Jan 2000"},
]


class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 2, 9, 8, 5, 3)


def main() -> None:
    cases = []
    with mock.patch.object(chat_template_utils, "datetime", Clock):
        for path in sorted(HERE.glob("*.jinja")):
            for name, messages in CONVERSATIONS.items():
                for variables in VARIABLES:
                    case = {"template": path.name, "messages": messages, "variables": variables}
                    try:
                        case["text"] = render_jinja_template([messages], chat_template=path.read_text(), **variables)[0][0]
                    except Exception as error:
                        # Messages from within Jinja or Python are not compared.
                        refused = type(error).__name__ == "TemplateError"
                        case["refused" if refused else "failed"] = str(error)
                    cases.append(case)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / "expected.json").write_text(f"[\n{lines}\n]\n")
    print(len(cases), "cases,", sum("refused" in c for c in cases), "refused,", [c["failed"] for c in cases if "failed" in c])


main()

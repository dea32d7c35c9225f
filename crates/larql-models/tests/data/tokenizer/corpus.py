"""Texts on which tokenizers are compared: each is there because some tokenizer has stumbled over its like."""

WORDS = [
    "", " ", "a", "Hello, world!", "The capital of France is Paris.", " leading space", "trailing space ",
    "two  spaces", "three   spaces and    four", "It's we've I'M you'LL they'd can't 'S 's ' s 'tis", "don''t '' 'll've",
    "CamelCaseWords snake_case kebab-case SCREAMING_CASE x1y2z3", "e.g. i.e. U.S.A. Dr. Smith's",
    "Ünïcödé café naïve façade Straße ſtraſse 'ſ 'K", "office ﬁnd ﬂow ﬀ", "Ｆｕｌｌｗｉｄｔｈ　ｔｅｘｔ１２３",
]

NUMBERS = [
    "1", "12", "123", "1234", "12345678901234567890", "3.14159", "1,000,000", "a1", "a 1", "a  1", "a   12", "1 2 3",
    "x=  42;", "\t7", "\n7", "\n\n  7", " 1", "  1", "   1", "1st 2nd", "2024-01-31T12:00:00Z", "0x1F 1e-9 50%",
    "½ ¾ ² ³ Ⅷ ⅷ ① ٣ ٤٥ ४२ ๑๒ 𝟘𝟙", " ½", "  ½", "10²", "(123)456-7890", "$1,234.56",
]

WHITESPACE = [
    "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r", "\n\r\n", " \n", "\n ", " \n ", "\n \n", "  \n  \n  x", "a\n", "a\n\nb", "a \n b",
    "a\tb\t\tc", "\ta", " \ta", "a\t", "   a   ", "a\u00a0b", "\u00a0a", "a \u00a0 b", "\u2003em\u2009thin", "a\u3000b", "\u3000", "\u200bzero\u200bwidth",
    "\u2028line\u2029paragraph", "\x0bvertical\x0cfeed", "\u0085next", "\ufeffbom", "a" + " " * 15 + "b", " " * 31 + "b", " " * 32 + "b", " " * 33 + "b",
    " " * 64, " " * 100 + "x", "\n" * 31, "\n" * 32 + "x", "\n" * 70, "\t" * 33, "if x:\n    y\n\n\n        z\n", "end \n\n", "\n    \n",
    "\u1680ogham\u180emongol\u202fnarrow\u205fmath",
]

CODE = [
    "def f(x):\n    return x ** 2  # square\n", "fn main() {\n\tprintln!(\"{}\", 1);\n}\n", "<div class=\"a\">&amp;</div>", "if (a&&b||!c) { d->e = &f[g]; }",
    "SELECT * FROM t WHERE a='b' AND c<>\"d\";", "for(int i=0;i<10;++i){}//x", "https://example.com/a?b=c&d=%20#e", "{\"a\": [1, 2.5, null], \"b\": {}}",
    "\\n \\t \\u00e9 \\\\", "a/b\\c|d~e`f^g", "!!!???...---___===", "#!/bin/sh\nset -e\n", "x\n\n\n\ny", "/* c */ // d\n/// e\n", "?>\n/\n//\n.../\n",
    "<table><tr><td>1</td></tr></table>", "<0x0A> <0xE2> <0x41>", "<unk> <s> </s> <pad> <bos> <eos> <mask>", "> </ >\u2581</", "<unused0> <unused 1>",
]

SCRIPTS = [
    "你好，世界！今天天气很好。", "日本語のテキストです。カタカナ、ひらがな。", "한국어 텍스트입니다. 안녕하세요", "繁體中文「測試」", "中文English混合123数字",
    "مرحبا بالعالم، كيف حالك؟", "السَّلَامُ عَلَيْكُمْ", "שלום עולם, מה שלומך?", "नमस्ते दुनिया, आप कैसे हैं?", "क्षत्रिय श्री ज्ञ", "สวัสดีชาวโลก", "Привет, мир! Ёлка",
    "Γειά σου Κόσμε", "Xin chào thế giới Việt Nam", "e\u0301 a\u0308 n\u0303 combining", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞", "மொழி తెలుగు ಕನ್ನಡ മലയാളം", "𐍈𐌰𐌿 𒀀𒁀 𓀀", "Ａ𝓑𝔠 ℵ ∑∫√≠",
    "←→↑↓ ─│┌ ★☆ ©®™ €£¥", "‘single’ “double” –en —em …", "ⴰⵣⵓⵍ ꙮ",
]

EMOJI = [
    "😀", "😀😃😄", "a😀b", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇯🇵", "1️⃣ #️⃣", "❤️ ☺️ ☎", "🧑🏿‍🚀 in space", "\U0001fae0\U0001fae8", "\U0010ffff\U000e0001", "\ufffd", "a\ufffdb", "\ufffe\uffff",
]

CONTROL = ["\x00", "a\x00b", "\x01\x02\x1f", "\x7f", "\x80\x9f", "\x1b[31mred\x1b[0m", "a\x08b", "\u00ad\u200d\u200c", "\u202eright\u202c", "Ġ Ċ ▁ ▁▁", "▁a", " ▁ ", "▁"]

LONG = ["a" * 200, "ab" * 100, "!" * 100, "=" * 65 + "\n", "-" * 33, "0" * 50, "的" * 40, "😀" * 20, "xyz " * 30, "'" * 20, "\u0301" * 10, "ha" * 33 + "!" * 7, "....." * 11, "▁" * 40]

TEXTS = WORDS + NUMBERS + WHITESPACE + CODE + SCRIPTS + EMOJI + CONTROL + LONG

"""In which forms a secret stands in a text, beside what tells that it is one: a name, a header, a look of its own.

A table, each row with examples: `s3cret` is what is left out of them, and what looks alike and is none stays. A test
goes through the rows one by one. Each pattern takes time in proportion to the text: what it looks ahead or behind for
is bounded, and what is repeated begins with another sign than what comes next.
"""

from __future__ import annotations

from dataclasses import dataclass

FAR, NEAR = 2_000, 300
"""Signs between which the end of a secret is looked for: longer than any password, or a text of one long word would
take minutes; and than what is left of one behind a quote in it, each of which is looked at."""

GAP = r"[^\S\n]"
QUOTE = r"\\*['\"]"
TEXT = r"[bru]{0,2}['\"]"
"""How a text begins in Python."""

_KEY = r"(?:api|access|account|private|subscription)[_-]?key"
# What must not stand before is looked for behind the word: few places of a text have the word at all.
# What a text model's tokens do, `pad_token` and the like.
_TOKEN = "token" + "".join(
    rf"(?<!(?:{names})[_-]token)"
    for names in (
        "bos|cls|eos|eot|num|max|min|pad|sep|unk",
        "mask|stop|next|text|word",
        "image|audio|added|total|video|start",
        "prefix|prompt|suffix",
        "special",
    )
)
WORD = (
    rf"passw(?:or)?d|passphrase|pwd|secret(?:[_-]?key)?|{_TOKEN}|{_KEY}|access[_-]?signature|credentials?"
    r"|auth[_-]?string|pa(?<=[_-]pa)(?:ss|t)(?![a-z])|pw(?<![a-z0-9]pw)(?![a-z0-9])|sig(?<=[&?]sig)(?:nature)?"
)
"""What a secret is called, in a text, in a query and in the environment."""

# What colours a terminal's text, also where it was written down.
_COLOUR = r"(?:(?:\x1b|\\x1b|\\u001b|\\033)\[[\d;]{0,20}m)"
# Of what Python would join to it, something is left.
_ALONE = r"(?!\s{0,99}['\"])"
_NOTHING = rf"(?: '[^\w\s']{{0,2}}'{_ALONE} | \"[^\w\s\"]{{0,2}}\"{_ALONE} )"
# What stands there in a help, in a script and where there is none.
_STANDS_FOR_ONE = (
    r"(?: (?: None|True|False|null|true|false | \.\.\. | \$\{?[A-Z_]{2,40}\}? | <[a-z]+(?:[ _-][a-z]+)*> )"
    r" (?=[\s'\"\])},;] | \Z) )"
)
_METAVARIABLE = (
    r"(?:DIRECTORY|FILE|FILENAME|FOLDER|INTEGER|KEY|NAME|PASSWORD|PATH|SECRET|STRING|TEXT|TOKEN|VALUE)(?=[\s\])|,.]|\Z)"
)
_END_OF_LINE = r"(?: [\n\r] | \\[nr] | \Z )"


@dataclass(frozen=True)
class Form:
    """One form.

    Attributes:
        pattern: up to where the secret begins; verbose, as `re.VERBOSE` reads it.
        examples: with `s3cret` for the secret.
        others: what is nearly so, and tells none.
    """

    pattern: str
    examples: tuple[str, ...]
    others: tuple[str, ...] = ()


BEHIND_A_NAME = (
    # A text in quotes.
    Form(
        rf"(?:{QUOTE})? {GAP}*(?: :?=>? | : ){GAP}* (?!{_NOTHING}) (?=[bru]{{0,2}}{QUOTE})",
        ("password: 's3cret'", '{"api_key": "s3cret"}', "token := b's3cret'", "'secret' => \"s3cret\"", "pwd='s3cret'"),
        ("'password': None", "unexpected token: '}', secret=''", "input names ['token', 'x']"),
    ),
    # With its type in a program.
    Form(
        rf":{GAP}*[\w.\[\]]{{1,40}}(?:{GAP}*\|{GAP}*\w{{1,40}})?{GAP}*={GAP}*(?={TEXT})",
        ("password: str = 's3cret'", "token: str | None = 's3cret'"),
        ("password: str = None",),
    ),
    # As SQL has it.
    Form(
        rf"(?<=[dDeE]){GAP}+(?=[bru]{{0,2}}(?: '[^'\n]{{3,{NEAR}}}' | \"[^\"\n]{{3,{NEAR}}}\" ))",
        ("ALTER USER me PASSWORD 's3cret'", 'the password "s3cret" is wrong'),
        ("unexpected token '}'", "no password '': set one"),
    ),
    # A number; a short one counts tokens.
    Form(
        rf"{QUOTE}{GAP}*:{GAP}+ (?=-?\d{{4}})",
        ('{"password": 98769876}',),
        ('{"token": 3, "secret": 12}',),
    ),
    # Several; `tokens` are a text model's.
    Form(
        rf"(?:(?<![nN])s)? (?:{QUOTE})? {GAP}*:?[:=]{GAP}* (?=[\[({{][\[({{\s]{{0,40}}{TEXT})",
        ("passwords=['s3cret']", "api_keys: ('s3cret')", "{'secret': {'s3cret'}}", "'passwords': [('s3cret')]"),
        ("tokens=['a', 'b']", "passwords=[]"),
    ),
    # In colours.
    Form(
        rf"{_COLOUR}{{1,4}}={_COLOUR}{{0,4}} | ={_COLOUR}{{1,4}}",
        ("\x1b[36mpassword\x1b[0m=\x1b[35ms3cret", r"\u001b[36mtoken\u001b[0m=\u001b[35ms3cret"),
    ),
    # In a setting, a query and a form.
    Form(
        rf"['\"]?=(?!{_STANDS_FOR_ONE} | {_NOTHING}) (?: (?!=) | {GAP}+(?=[^\s=]+=*(?!\S)) )",
        (
            "host=db password=s3cret user=me",
            "PWD=s3cret;",
            "?token=s3cret",
            "access_key= s3cret",
            "'password'=s3cret",
            "pwd=true-s3cret",
            "pwd=...s3cret",
            "pwd=<a>s3cret",
            "pwd=$A-s3cret",
        ),
        ("if password == expected", "password=None, token=False", "PASSWORD=$DB_PASSWORD", "PASSWORD=<your password>"),
    ),
    # With spaces around what stands between.
    Form(
        rf"{GAP}+(?: => | :?=(?![=>]) ){GAP}*(?!{_STANDS_FOR_ONE})",
        ("password = s3cret", "secret => s3cret", "token\t=\ts3cret"),
        ("token == x", "secret = None"),
    ),
    # With a colon; a space behind it would be prose.
    Form(
        r"['\"]?:(?!/)",
        ("connect(secret:s3cret)",),
        ("secret: see below", "password://"),
    ),
    # In a header, named by a key or a secret.
    Form(
        rf"(?: (?<=[kK][eE][yY]) | (?<=[_-][sS][eE][cC][rR][eE][tT]) ):{GAP}+",
        ("Subscription-Key: s3cret", "client-secret: s3cret"),
        ("the secret: a word", "key: a word"),
    ),
    # As the rest of a line, as YAML has it, unless it may be a word or a number of tokens.
    Form(
        rf"(?<![nN]):{GAP}+(?=[^\s/'\"]{{6,{NEAR}}}{GAP}*{_END_OF_LINE})(?=[^\s\d]{{0,{NEAR}}}\d)(?=[^\sA-Za-z]{{0,{NEAR}}}[A-Za-z])",
        ("db:\n  password: s3cret\n  host: db", r'"cfg": "password: s3cret\n"'),
        ("password: required\n", "secret: 123456\n", "password: set one in 2026"),
    ),
)
"""What stands between a secret's name, `WORD`, and the secret."""

BY_ITSELF = (
    # As an option of a command, in a line and in a list.
    Form(
        rf"-(?<![\w\-]-)-?(?=[a-zA-Z])[\w\-]{{0,30}}? (?i: {WORD} | pass )"
        rf"(?: {GAP}+(?! - | (?:and|as|for|from|in|is|of|on|option|or|to|with)\b | {_METAVARIABLE} )"
        rf" | ['\"],{GAP}*(?={TEXT}) )",
        ("mysql --password s3cret -h x", "x --password KEY-s3cret", "['x', '--api-key', 's3cret']"),
        ("--token-file x", "--password to be set", "--password TEXT  of the user", "--private-key FILE"),
    ),
    Form(
        rf"-(?<![\w\-]-)(?: u | -(?:proxy-)?user ) (?: {GAP}*= | {GAP}+ | ['\"],{GAP}*{TEXT} )"
        rf"(?!\d+:\d) [^\s:'\"/]{{1,60}}:",
        ("curl -u me:s3cret x", "['curl', '--user', 'me:s3cret']", "--proxy-user=me:s3cret"),
        ("docker run -u 1000:1000", "python -u a.py"),
    ),
    # A pair, of two alone: a list of names tells nothing.
    Form(
        rf"\( {TEXT} [\w\-]{{0,60}}? (?i: {WORD} ) ['\"],{GAP}* (?={TEXT})",
        ("[('password', 's3cret')]", "(b'x-auth-token', b's3cret')"),
        ("['token', 'x']",),
    ),
    # A name and a value that stand beside each other by these names, as in a pod and in XML.
    Form(
        rf"\b(?i:name|key)(?:{QUOTE})? {GAP}{{0,9}}[:=]{GAP}{{0,9}} (?:{QUOTE})? [\w.\-]{{0,60}}? (?i: {WORD} )"
        rf" (?:{QUOTE})? (?: [\s,;] | \\[nr] ){{1,40}}"
        rf" (?:{QUOTE})? (?i:value) (?:{QUOTE})? {GAP}{{0,9}}[:=]{GAP}{{0,9}}",
        (
            '{"name": "DB_PASSWORD", "value": "s3cret"}',
            "- name: DB_PASSWORD\n  value: s3cret",
            '<add key="password" value="s3cret"/>',
        ),
        ('{"name": "width", "value": "64"}', "- name: DB_PASSWORD\n  valueFrom: x"),
    ),
    Form(
        rf"\bname=(?:{QUOTE}) [\w.\-]{{0,60}}? (?i: {WORD} ) (?:{QUOTE}) (?: \r?\n | (?:\\r)?\\n ){{2}}",
        ('form-data; name="password"\r\n\r\ns3cret\r\n--b',),
    ),
    # A user and a password in one, as libraries for HTTP print them.
    Form(
        rf"\b(?i:(?:proxy_)?auth|netloc|userinfo)(?:{QUOTE})?{GAP}*[:=]{GAP}* (?:"
        rf" \({TEXT}[^'\"\n]{{0,60}}['\"],{GAP}*(?={TEXT}) | {TEXT}[^\s:'\"/]{{0,60}}:(?=[^\s'\"/]) )",
        ("get(auth=('me', 's3cret'))", "Url(scheme='http', auth='me:s3cret', port=1)", "netloc='me:s3cret'"),
        ("auth='basic', netloc='db'", "auth=('me',)"),
    ),
    Form(
        rf"['\"]auth['\"]{GAP}*:{GAP}*(?=\"[A-Za-z0-9+/]{{12,{FAR}}}={{0,2}}\")",
        ('{"auths": {"h": {"auth": "s3cretbWU6c2VjcmV0"}}}',),
        ('{"auth": "basic"}',),
    ),
    Form(
        rf"(?i:identified{GAP}+by){GAP}+(?=['\"])",
        ("CREATE USER me IDENTIFIED BY 's3cret'",),
    ),
    Form(
        r"<Cookie\ [^\s=<>]{1,60}=",
        ("<RequestsCookieJar[<Cookie session=s3cret for db/>]>",),
    ),
)
"""What stands before a secret where more than its name tells that it is one."""

ENCODED = (
    # An address that is encoded as a whole.
    Form(
        rf"(?i: %3a(?:%2f){{2}} (?: (?!%40|%2f|%3a)[^\s&'\"] ){{0,60}}+ %3a ) (?=[^\s&'\"]{{1,{NEAR}}}%40)",
        ("GET /a/postgresql%3A%2F%2Fme%3As3cret%40db%2Fx",),
        ("http%3A%2F%2Fhost%3A5000%2Fa",),
    ),
    # A form's field.
    Form(
        rf"(?i: {WORD} )%3[dD](?=[\w%])",
        ("user%3Dme%26password%3Ds3cret",),
    ),
)
"""What stands before a secret in a text that was encoded for an address; within an address it is decoded instead."""

HEADER = rf"""(?:
        (?i: authorization | cookie | \b private-token
          | \b x-(?:[\w\-]{{0,30}}[_-])? (?: (?:api|auth|access)?key | token )
        )
        (?: (?:{QUOTE})? {GAP}*[:=] | ['"],(?={GAP}*{TEXT}) ) {GAP}* (?: [bru]{{0,2}}{QUOTE} )?
    ) (?=[^\s'"])"""
HEADERS_VALUE = rf"""(?:
        # With parameters, in quotes of their own.
        (?i: digest | hawk | mac | oauth | signature ) {GAP} (?:
            [,\s]{{0,9}} [\w\-]{{1,40}} = (?: \\?"[^"\n]{{0,{FAR}}}" | '[^'\n]{{0,{FAR}}}' | [^\s,'"]{{0,{FAR}}} ) )++
      | (?i: token ) {GAP} \\?"[^"\n]+"
      | [^\s'"][^\n'"]* )"""
"""What comes after `HEADER`."""

BARE = r"[bB](?<!\w[bB])(?:earer|asic)[^\S\n]+ (?=[\w\-.~+/]{8}) (?=[a-zA-Z\-.~+/_]{0,60}\d)"
"""What comes before credentials without their header."""

ELEMENT = rf"<[\w:.\-]{{0,40}}? (?i: {WORD} )(?:{GAP}[^<>\n]{{0,200}})?> (?=[^<\n]{{1,{FAR}}}</)"
"""The element of XML that a secret is in."""

KNOWN_BY_LOOK = r"""(?<![A-Za-z0-9_\-]) (?=[egGhx]) (?:
        gh[oprsu]_\w{20,} | github_pat_\w{20,} | glpat-[\w\-]{16,} | hf_[A-Za-z]{20,} | xox[abeprs]-[\w\-]{10,}
      | eyJ[\w\-]{8,}\.eyJ[\w\-]{8,}\.[\w\-]+ )"""
"""Those that are known by how they begin: of GitHub, GitLab, Hugging Face and Slack, and what is signed for the web."""

_BREAK = r"(?: \s | \\[nr] | ['\"] )"
PRIVATE_KEY = rf"-----BEGIN\ (?:[A-Z]{{2,9}}\ ){{0,2}}PRIVATE\ KEY-----(?={_BREAK}{{1,40}}[A-Za-z0-9+/])"
"""What comes before a private key's lines."""
KEYS_LINES = rf"(?: (?: (?!-----)[\s\S] )++ (?=-----END) | (?: {_BREAK}{{1,40}} [A-Za-z0-9+/=]{{16,}} )+ | {_BREAK}++ )"
"""These, up to the end, or as far as they seem to go where it was cut off."""


def named(*more: Form) -> str:
    """A pattern of all that stands before a secret and names it.

    Args:
        more: forms beside `BEHIND_A_NAME` and `BY_ITSELF`.
    """
    behind = "|".join(f"(?:{form.pattern})" for form in BEHIND_A_NAME)
    others = "|".join(f"(?:{form.pattern})" for form in (*BY_ITSELF, *more))
    return rf"(?: (?i: {WORD} ) (?: {behind} ) | {others} ) (?=\S)"

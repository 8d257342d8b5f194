"""No secret of an address is left in what is shown, and nothing else is missing."""

from __future__ import annotations

import re
import time
import timeit
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.errors import RegistryError
from regiolect.errors.redaction import redacted, redacted_address, secrets_of, showable, without_userinfo


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:s3cret@db.example/mlflow", "postgresql://me:***@db.example/mlflow"),
        ("postgresql+psycopg2://me:p/w@db:5432/mlflow", "postgresql+psycopg2://me:***@db:5432/mlflow"),
        ("postgresql://me:p@ss/w?x#y@db/mlflow", "postgresql://me:***@db/mlflow"),
        ("postgresql://me:s3cret@one:1,two:2/db?sslmode=require", "postgresql://me:***@one:1,two:2/db?sslmode=require"),
        ("postgresql:///db?host=one&user=me&password=s3cret&port=1", "postgresql:///db?host=one&user=me&password=***&port=1"),
        ("postgresql://db/mlflow?sslpassword=a%20b", "postgresql://db/mlflow?sslpassword=***"),
        ("postgresql://me@db/mlflow", "postgresql://me@db/mlflow"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Ds", "mssql+pyodbc:///?odbc_connect=***"),
        ("http://a-token@host:5000/api", "http://***@host:5000/api"),
        ("http://a/to+ken=@host", "http://***@host"),
        ("https://a-token:@host", "https://***@host"),
        ("https://a-token:x-oauth-basic@host/a.git", "https://***@host/a.git"),
        ("http://me:s3cret@[::", "http://me:***@[::"),
        ("https://h/o?X-Amz-Signature=abc&X-Amz-Date=1#access_token=d", "https://h/o?X-Amz-Signature=***&X-Amz-Date=1#access_token=***"),
        ("https://host:5000/a?email=me@corp&page=1", "https://host:5000/a?email=me@corp&page=1"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("https://mlflow.example:5000", "https://mlflow.example:5000"),
        ("postgresql://db/x?user=me&password=ab;cd#ef&port=1", "postgresql://db/x?user=me&password=***&port=1"),
        ("https://h/x?token=ab;page=1#cd", "https://h/x?token=***;page=1#cd"),
        ("https://h/x?key=AIza&page=1", "https://h/x?key=***&page=1"),
        ("https://h/x?code=abc==", "https://h/x?code=***"),
        ("https://h/x?jwt=eyJ", "https://h/x?jwt=***"),
        ("http://user:123?x=wo@host/api", "http://user:***@host/api"),
        ("http://token?x=wo@host/api", "http://***@host/api"),
        ("https://proxy/?next=https://me:s3cret@h2/x", "https://proxy/?next=https://me:***@h2/x"),
        ("https://proxy/?next=https://me:s&t@h2/x?token=u", "https://proxy/?next=https://me:***@h2/x?token=***"),
        ("https://proxy/?next=https%3A%2F%2Fme%3As3cret%40h2&page=1", "https://proxy/?next=***&page=1"),
        ("https://a:b@proxy/?next=//me:s3cret@h2/x", "https://a:***@proxy/?next=//me:***@h2/x"),
        ("//me:s3cret@host/path", "//me:***@host/path"),
        ("postgresql:/me:s3cret@host/db", "postgresql:/me:***@host/db"),
        ("/maps/api?key=AIza&page=1", "/maps/api?key=***&page=1"),
        ("mysql://me@db/x?ssl_key=/etc/key.pem", "mysql://me@db/x?ssl_key=/etc/key.pem"),
        ("sqlite:////home/me@corp/mlflow.db", "sqlite:////home/me@corp/mlflow.db"),
        ("file:///home/me@corp/reports", "file:///home/me@corp/reports"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("models:/fashion-eu@champion", "models:/fashion-eu@champion"),
        ("git+https://host.example/a/b.git@v1#egg=b", "git+https://host.example/a/b.git@v1#egg=b"),
        ("git+https://me:s3/cret@host.example/a.git@v1", "git+https://me:***@v1"),
        ("git+https://to/ken=@host.example/a", "git+https://***@host.example/a"),
        ("oci://h:5000/a:1@sha256:0f3a0f3a0f3a", "oci://h:5000/a:1@sha256:0f3a0f3a0f3a"),
        ("oci://me:s3@cret@h/a:1@sha256:0f3a0f3a0f3a", "oci://me:***@h/a:1@sha256:0f3a0f3a0f3a"),
    ],
)  # fmt: skip
def test_secrets_are_left_out_and_the_rest_is_not(address: str, shown: str) -> None:
    assert redacted(address) == shown
    assert redacted(shown) == shown
    # As a vendor's message has it.
    assert redacted(f"(Error) cannot open '{address}': no") == f"(Error) cannot open '{shown}': no"


def test_every_address_of_a_text_is_looked_at() -> None:
    text = 'tried http://me:a@one,http://b@two and "postgresql://me:c@three/db"\nthen https://h?token=d'
    assert redacted(text) == (
        'tried http://me:***@one,http://***@two and "postgresql://me:***@three/db"\nthen https://h?token=***'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db password=s3cret user=me", "host=db password=*** user=me"),
        ("host=db password='a b' user=me", "host=db password='***' user=me"),
        (r"password='it\'s c' user=me", "password='***' user=me"),
        ("password='cut off in the mid", "password='***"),
        ('{"user": "me", "password": "a b", "host": "db"}', '{"user": "me", "password": "***", "host": "db"}'),
        ("{'sslpassword': 'a b', 'token': b'c'}", "{'sslpassword': '***', 'token': b'***'}"),
        ("connect(host='db', password=a, user=me)", "connect(host='db', password=***, user=me)"),
        ("DRIVER=x;UID=me;PWD=s3cret;", "DRIVER=x;UID=me;PWD=***;"),
        ("AccountName=a;AccountKey=c2VjcmV0==", "AccountName=a;AccountKey=***"),
        ("Authorization: Basic bWU6c2VjcmV0", "Authorization: ***"),
        ("{'Authorization': 'Bearer eyJ.a', 'Accept': '*'}", "{'Authorization': '***', 'Accept': '*'}"),
        ("Set-Cookie: session=abc; Path=/\nHost: db", "Set-Cookie: ***\nHost: db"),
        ("postgresql://me:pa'secret@db/x", "postgresql://me:***@db/x"),
        ("Minio(access_key='AK', secret_key='s3cret')", "Minio(access_key='***', secret_key='***')"),
        ("[default]\nsecret_key = s3cret\nregion = eu", "[default]\nsecret_key = ***\nregion = eu"),
        ("X-Api-Key: s3cret\nHost: db", "X-Api-Key: ***\nHost: db"),
        ("PRIVATE-TOKEN: s3cret", "PRIVATE-TOKEN: ***"),
        ("MYSQL_PWD=s3cret mysql -u me", "MYSQL_PWD=*** mysql -u me"),
        ("{b'authorization': b'Bearer s3cret', b'a': 1}", "{b'authorization': b'***', b'a': 1}"),
        ("[('authorization', 'Bearer s3cret'), ('a', 1)]", "[('authorization', '***'), ('a', 1)]"),
        ("[(b'x-api-key', b's3cret')] and ('password', 's3cret')", "[(b'x-api-key', b'***')] and ('password', '***')"),
        (r'body "{\"password\": \"s3\\\"cret\", \"a\": 1}"', r'body "{\"password\": \"***\", \"a\": 1}"'),
        (r"'{\'token\': \'s3cret\'}'", r"'{\'token\': \'***\'}'"),
        ("api-key: s3cret\nHost: db", "api-key: ***\nHost: db"),
        ("Ocp-Apim-Subscription-Key: s3cret", "Ocp-Apim-Subscription-Key: ***"),
        ("password  =  s3cret user=me", "password  =  *** user=me"),
        ("password\t=\ts3cret", "password\t=\t***"),
        ("password =s3cret; token= s3cret; secret => s3cret", "password =***; token= ***; secret => ***"),
        ("password = '''s3cret\ns3cret''' x", "password = '''***''' x"),
        ("DB_PASS=s3cret GITHUB_PAT=s3cret CREDENTIALS=s3cret", "DB_PASS=*** GITHUB_PAT=*** CREDENTIALS=***"),
        ('{"password": 98769876, "port": 5432}', '{"password": ***, "port": 5432}'),
        ("passwords=['a b', 's]c'], port=1", "passwords=[***], port=1"),
        ('{"api_keys": ["a", "b"], "secret": ("c",)} x', '{"api_keys": [***], "secret": (***)} x'),
        ("password=['a', 'cut off in the mid", "password=[***"),
        ("password=['a'] x", "password=[***] x"),
        ("\x1b[36mpassword\x1b[0m=\x1b[35ms3cret\x1b[0m a=1", "\x1b[36mpassword\x1b[0m=\x1b[35m*** a=1"),
        (r"\u001b[36mtoken\u001b[0m=\u001b[35ms3cret a=1", r"\u001b[36mtoken\u001b[0m=\u001b[35m*** a=1"),
        ("password='abc' 's3cret', port=1", "password='***', port=1"),
        (
            "Command '['mysql', '--password', 's3cret', '-h', 'x']'",
            "Command '['mysql', '--password', '***', '-h', 'x']'",
        ),
        ("mysql --password s3cret -h x --api-key s3cret", "mysql --password *** -h x --api-key ***"),
        ("Command '['curl', '-u', 'me:s3cret', 'x']'", "Command '['curl', '-u', 'me:***', 'x']'"),
        ("curl -u me:s3cret x; curl --proxy-user=me:s3cret x", "curl -u me:*** x; curl --proxy-user=me:*** x"),
        ("sent 'Bearer s3cret.ab-cd', 'Basic bWU6czNjcmV0'", "sent 'Bearer ***', 'Basic ***'"),
        (
            "<SecretAccessKey>s3 cret</SecretAccessKey><Name>x</Name>",
            "<SecretAccessKey>***</SecretAccessKey><Name>x</Name>",
        ),
        ("pw=s3cret, DB_PW=s3cret", "pw=***, DB_PW=***"),
        ("client-secret: s3cret\nHost: db", "client-secret: ***\nHost: db"),
        ("se=1&sig=s3cret", "se=1&sig=***"),
        ("at postgresql://me:a>s3<c`ret@host/db now", "at postgresql://me:***@host/db now"),
    ],
)
def test_secrets_behind_a_name_are_left_out(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        'File "/work/me@corp/a:b/passwords.py", line 3, in token\n    if password == expected: return key[0]',
        "build key=0f3a, keyid=ab; changed: policy=1, max_tokens=512 (tokens: 3), tokenizer=bert, passes=2",
        "no password: set PGPASSWORD, or MLFLOW_TRACKING_TOKEN_FILE=/run/token, then: regiolect run a.b:MODEL -r eu",
        "expected a token; found ':' // see https://docs.example/a?page=2#secret-names",
        "engine tiny-eu:3@champion at models:/tiny-eu@champion in s3://bucket/prefix/x",
        "image regiolect:1@sha256:0f3a on host:5000, code=3, jwt=2, what?",
        "x-monkey: 3, x-keyboard: 4, pad_token='[PAD]', eos_token=2, 'image_token': '<image>'",
        "input names ['token', 'x']",
        "host=db password= user=me; one_pass: 2, passes=3, PYTHONPATH=/a, PATTERN=b, if password == 'x'",
        "tokens=['[CLS]', 'a'], 'token': 3, spwn=2, &page=2, <token> is what ends <name>, design=3, swap pw",
        "mysql --password to be set, --token-file x, --max-tokens 512, docker run -u 1000:1000, python -u a.py",
        "Basic instructions of 2 bearers; Bearer tokens are long; {'password': None, \"token\": true}",
        "<a href='http://host/a'>me@corp</a>, <http://host/b>, <http://host/c>",
        "C:\\Users\\me@corp and \\\\share\\x, {'secretName': 'db', 'credentials_path': '/a'}",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/?" + "a=b&" * 25_000 + "token=s3cret", "https://h/?" + "a=b&" * 25_000 + "token=***"),
        ("token=" + "]," * 50_000 + "x", "token=***"),
        ("a:/b:" * 20_000, "a:/b:" * 20_000),
        ("https://h/" + '"a,' * 30_000 + "@", None),
        ("?a=" + "'x@" * 100_000, None),
        ("?a='x:" * 50_000, None),
    ],
    ids=["query", "closing brackets", "no host", "quotes", "quotes before signs", "quotes of many queries"],
)
def test_a_long_text_takes_no_minutes(text: str, shown: str | None) -> None:
    found = redacted(text)
    assert shown is None or found == shown


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("piece", "before"),
    [
        ("?a=b&", ""),
        (")?a=b&", ""),
        ("?a=b#token=", ""),
        (";a=b%41", "mysql://db/x?"),
        ("?", "http://h/a"),
        ("'x@", "?a="),
        ("?a='x@", ""),
        ("?a='x:", ""),
        ("password=['a", ""),
        ("password='a'", ""),
        ("<token>", ""),
        ("--a", ""),
    ],
)
def test_twice_the_text_takes_no_more_than_about_twice_the_time(piece: str, before: str) -> None:
    def seconds(times: int) -> float:
        text = before + piece * times
        # Of this process alone: what else the machine does is no time of ours.
        return min(timeit.repeat(lambda: redacted(text), timer=time.process_time, number=1, repeat=3))

    # Sixteen times the text: a quadratic search would take 256 times as long.
    assert seconds(8_000) < 64 * seconds(500) + 0.05


@pytest.mark.parametrize("address", ["s3:me:s3cret@b", "https:me:s3 cret@host", "https://me:s3 cret@host"])
def test_an_address_alone_may_be_written_in_any_way(address: str) -> None:
    assert "cret" not in redacted_address(address)


PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\"<>`"), min_size=1)


HOSTS = st.sampled_from(["db", "db.example:5432", "one:1,two:2", "[::1]:5000"])


@given(password=PASSWORDS, host=HOSTS, scheme=st.sampled_from(["postgresql", "http", "s3", "mysql+pymysql"]))
def test_no_sign_in_a_password_lets_it_through(password: str, host: str, scheme: str) -> None:
    shown = redacted(f"error: {scheme}://someone:{password}@{host}/x?a=b failed")
    if not re.search(r"\?[^@=]*=|[,;|][A-Za-z][\w+.\-]*://", password):
        assert shown in {f"error: {scheme}://{user}@{host}/x?a=b failed" for user in ("someone:***", "***")}
        assert without_userinfo(f"{scheme}://someone:{password}@{host}/x") == f"{scheme}://{host}/x"


PLANTED = PASSWORDS.map(lambda password: f"Zq9{password}9qZ")


def without(signs: str) -> st.SearchStrategy[str]:
    return PLANTED.filter(lambda password: not re.search(f"[{re.escape(signs)}]", password))


@given(
    case=st.one_of(
        # Where a sign ends the value for whoever reads it, it cannot stand there as it is.
        st.tuples(st.just("postgresql://db/x?user=me&password={}&port=1"), without("&")),
        st.tuples(st.just("https://db/x?user=me&token={}"), without("&;#")),
        st.tuples(st.just("/db/x?user=me&key={}"), without("&;#")),
        st.tuples(st.just("https://proxy/?next=https://me:{}@db/x"), without("?,;|")),
        st.tuples(st.just("https://proxy/?next=https%3A%2F%2Fme%3A{}%40db%2Fx&user=me"), without("?,;|&#%")),
        st.tuples(st.just("//me:{}@db/x"), without("?,;|")),
        st.tuples(st.just("host=db user=me password={} dbname=/x"), PLANTED),
        st.tuples(st.just("host=db user=me password = {} dbname=/x"), without("=")),
        st.tuples(st.just("host=db user=me password='{} {}' dbname=/x"), without("\\")),
        st.tuples(st.just('{{"host": "db", "user": "me", "password": "{}", "path": "/x"}}'), without("\\")),
        st.tuples(st.just("db/x me\nAuthorization: Basic {}"), PLANTED),
        st.tuples(st.just("db/x me SERVICE_API_KEY={}"), PLANTED),
    )
)
def test_a_planted_password_survives_in_no_form_and_what_stands_around_it_does(case: tuple[str, str]) -> None:
    form, password = case
    shown = redacted(f"(Error) {form.format(password, password)} (no answer)")
    assert password not in shown
    assert redacted(shown) == shown
    assert shown.startswith("(Error) ")
    if "%3A" not in form:
        assert all(part in shown for part in ("db", "me", "/x"))


@given(text=st.text(st.characters(min_codepoint=9, max_codepoint=126)))
def test_what_was_redacted_stays_as_it_is(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_a_long_text_takes_no_time() -> None:
    begun = time.perf_counter()
    for piece in ("a", "/", "'", "?a=", "http://a'b", "password", "token='", "a:", "//a:b", "x=", '"'):
        redacted(piece * 20_000)
    assert time.perf_counter() - begun < 20


def test_an_error_says_no_secret_and_has_no_cause_that_does() -> None:
    address = "postgresql://me:s3cret@db/mlflow"
    try:
        try:
            raise ValueError(address)
        except ValueError as inner:
            raise KeyError("harmless") from inner
    except KeyError as error:
        refused = RegistryError(f"a registry at {address}", f"{error.__cause__}", f"correct {address}")
        refused.__cause__, refused.__suppress_context__ = showable(error), True
    assert "s3cret" not in "".join(traceback.format_exception(refused))
    assert showable(harmless := KeyError("harmless")) is harmless


def in_a_note(text: str) -> Exception:
    error = ValueError("harmless")
    error.add_note(text)
    return error


@pytest.mark.parametrize(
    "made",
    [
        lambda text: ExceptionGroup("several", [ValueError("harmless"), ValueError(text)]),
        in_a_note,
        lambda text: SyntaxError("invalid", ("a.cfg", 1, 1, text)),
    ],
    ids=["group", "note", "line of a file"],
)
def test_no_part_of_a_cause_that_is_printed_tells_a_secret(made: Callable[[str], BaseException]) -> None:
    assert showable(made("password='s3cret'")) is None
    assert showable(error := made("harmless")) is error


@pytest.mark.timeout(60)
def test_causes_may_form_a_cycle_and_an_error_may_say_nothing() -> None:
    class Mute(ValueError):
        def __str__(self) -> str:
            raise RuntimeError("its own code")

    one, two = ValueError("one"), Mute("two")
    one.__cause__, two.__cause__ = two, one
    assert showable(one) is one
    two.__cause__ = ValueError("password='s3cret'")
    assert showable(one) is None


def test_what_is_secret_in_an_address_is_told_as_written_and_as_read() -> None:
    assert secrets_of("https://me:a%2Fb@h/x?token=c+d&page=1") == {"a%2Fb", "a/b", "c+d", "c d"}

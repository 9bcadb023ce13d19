"""Secrets of the site are found and masked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chroniker.masking import MASK, Masker, find_secrets, find_url_tokens, site_secrets
from chroniker.models import JobState, Run
from chroniker.processes import output
from chroniker.processes.output import Recorder
from tests.factories import make_action_job
from tests.support.recorder import (
    FAIL,
    NO_SECRETS,
    STREAMS,
    TAKE,
    OutputStore,
    check_stored,
    run_steps,
    small_pieces,
)
from tests.support.runs import stored_output
from tests.support.types import RunTick


@pytest.mark.django_db(transaction=True)
def test_site_secrets_are_not_stored(run_tick: RunTick, settings: Any) -> None:
    settings.PAYMENT_API_KEY = "sk_live_abcdef0123456789"
    job = make_action_job("fail sk_live_abcdef0123456789")
    run_tick()
    run = Run.objects.get(job=job)
    assert run.error == "ValueError: ********"
    assert "sk_live" not in stored_output(run, "stderr")
    assert "sk_live" not in JobState.objects.get(job=job).last_error


@pytest.mark.parametrize(
    ("url", "tokens"),
    [
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
            {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"},
        ),
        ("tgram://123456789:abcdefg_Hij/12315544/", {"123456789", "abcdefg_Hij", "12315544"}),
        ("json://ann:correct%20Horse@web1.example.com:8080/webhook", {"correct Horse"}),
        ("https://hc-ping.com/c0ffee00-dead-beef", {"c0ffee00-dead-beef"}),
        ("https://monitor01:8443/hooks/chroniker?priority=urgent", set()),
        ("mailto://ann:correct@smtp2.example.com", set()),
    ],
)
def test_tokens_in_urls_are_found_and_words_are_not(url: str, tokens: set[str]) -> None:
    assert find_url_tokens({"": [url], "billing": url}) == tokens


def test_tokens_of_the_urls_of_chroniker_are_secrets(settings: Any) -> None:
    settings.CHRONIKER_APPRISE_URLS = {"": ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr"]}
    settings.CHRONIKER_DEADMAN_URL = "https://hc-ping.com/c0ffee00-dead-beef"
    assert {"A1BRTD4JD", "TIiajkdnlazkcOXr", "c0ffee00-dead-beef"} <= site_secrets()


SECRETS = ("hunter2hunter2", "hunter2", "r2hunt", "ter2x€", "aaaaaa", "€uro secret", "tail-end")
"""Prefixes of one another, overlapping one another and themselves, more bytes than characters."""

_halves = [half for secret in SECRETS for half in (secret[:4], secret[3:])]
_words = [*SECRETS, *_halves, "a", "aa", "h", "x", "€", " ", "\n", "some text "]
_texts = st.lists(st.sampled_from(_words), max_size=12).map(lambda words: "".join(words).encode())


@st.composite
def recorder_steps_with_secrets(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """Steps that write secrets and halves of secrets, split at any point."""
    made: list[tuple[str, bytes]] = []
    for stream in draw(st.lists(st.sampled_from(STREAMS), max_size=5)):
        data = draw(_texts) * draw(st.sampled_from((1, 1, 2, 9)))
        cuts = draw(st.lists(st.integers(0, max(0, len(data))), max_size=6))
        edges = [0, *sorted(cuts), len(data)]
        for begin, end in pairwise(edges):
            made.append((stream, data[begin:end]))
            if draw(st.integers(0, 3)) == 0:
                made.append((draw(st.sampled_from((TAKE, FAIL))), b""))
    return made


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(
    done=recorder_steps_with_secrets(),
    secrets=st.lists(st.sampled_from(SECRETS), unique=True, min_size=1, max_size=4),
    limit=st.one_of(st.just(100_000), st.integers(0, 120)),
    size=st.sampled_from((None, 8, 64)),
)
@example(
    done=[("stdout", b"hunter"), ("stderr", b"x"), ("stdout", b"2hunt")],
    secrets=["hunter2", "r2hunt"], limit=100_000, size=None,
)  # fmt: skip
def test_secrets_never_appear_and_nothing_else_is_masked(
    done: list[tuple[str, bytes]], secrets: list[str], limit: int, size: int | None
) -> None:
    with small_pieces(size):
        store, written = run_steps(Recorder(STREAMS, limit, Masker(secrets)), done)
        check_stored(store, written, limit, secrets)
    for piece in store.pieces:
        for secret in secrets:
            assert secret not in piece.text


@pytest.mark.parametrize("cut", range(1, 12))
def test_secret_split_by_a_drain_is_masked(cut: int) -> None:
    recorder, store = Recorder(STREAMS, 1000, Masker(["open sesame!"])), OutputStore()
    whole = b"say: open sesame! and enter"
    recorder.feed("stdout", whole[: 5 + cut])
    store.add(recorder.take())
    recorder.feed("stdout", whole[5 + cut :])
    store.add(recorder.take())

    assert "".join(piece.text for piece in store.pieces) == f"say: {MASK} and enter"


@pytest.mark.parametrize("where", range(-20, 5))
@pytest.mark.parametrize("boundary", ["head", "tail", "piece"])
def test_secret_across_a_pipe_boundary_is_masked(where: int, boundary: str) -> None:
    secret, limit, total = b"correct horse battery", 200_000, 700_000
    start = {"head": limit // 2, "tail": total - limit // 2, "piece": output.PIECE_BYTES}[boundary]
    data = bytearray(b"." * total)
    data[start + where : start + where + len(secret)] = secret
    recorder, store = Recorder(STREAMS, limit, Masker([secret.decode()])), OutputStore()
    for at in range(0, total, 65536):
        recorder.feed("stdout", bytes(data[at : at + 65536]))
    store.add(recorder.take(final=True))

    check_stored(store, {"stdout": bytes(data)}, limit, [secret.decode()])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf_16_secret_is_masked_after_nuls_are_removed(
    encoding: str,
) -> None:
    store, _ = run_steps(
        Recorder(STREAMS, 1000, Masker(["open sesame"])),
        [("stdout", "say open ".encode(encoding)), (TAKE, b""),
         ("stdout", "sesame now".encode(encoding))],
    )  # fmt: skip

    assert "".join(piece.text for piece in store.pieces) == f"say {MASK} now"


def test_bytes_key_is_masked_in_binary_output() -> None:
    masker = Masker(find_secrets({"SIGNING_KEY": b"\xff\xfe\x00key\x00\x80\x81"}, {}))
    store, _ = run_steps(
        Recorder(STREAMS, 1000, masker), [("stdout", b"<\xff\xfe\x00key\x00\x80\x81>")]
    )

    assert [piece.text for piece in store.pieces] == [f"<{MASK}>"]


def test_repeated_secret_is_masked_wherever_it_is_cut() -> None:
    recorder, store = Recorder(STREAMS, 100_000, Masker(["hunter2"])), OutputStore()
    for number in range(400):
        recorder.feed("stdout", (b"hunter2" * 200)[number % 7 :])
        if number % 90 == 0:
            store.add(recorder.take())
    store.add(recorder.take(final=True))

    assert "hunter2" not in "".join(piece.text for piece in store.of("stdout"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("", ""),
        ("nothing to hide", "nothing to hide"),
        ("at postgres://u:s3cret!@db/x", f"at postgres://u:{MASK}@db/x"),
        ("s3cret!s3cret!", MASK * 2),
        ("Grüße s3cret! 𝄞", f"Grüße {MASK} 𝄞"),
        ("a\0b", "ab"),
        ("s3c\0ret!", MASK),
        ("caf\udce9.txt", "caf\\xe9.txt"),
        ("half of a pair: \ud83d", "half of a pair: \\ud83d"),
    ],
)
def test_mask_text_returns_text_every_database_accepts(text: str, masked: str) -> None:
    given = Masker(["s3cret!"]).mask_text(text)

    assert given == masked
    given.encode()


@pytest.mark.parametrize("text", ["caf\udce9.txt", "\ud83d", "a\0b"])
def test_mask_text_without_secrets_returns_text_every_database_accepts(text: str) -> None:
    given = NO_SECRETS.mask_text(text)

    assert given.encode() and "\0" not in given


def test_secret_with_surrogates_is_not_an_error() -> None:
    masker = Masker(["\ud83d half", "", "s3cret!"])

    assert masker.mask_text("the s3cret!") == f"the {MASK}"


@pytest.mark.parametrize(
    ("site", "secret"),
    [
        ({"SECRET_KEY": "django-insecure-1"}, "django-insecure-1"),
        ({"SECRET_KEY_FALLBACKS": ["older key"]}, "older key"),
        ({"DATABASES": {"default": {"PASSWORD": "hunter22"}}}, "hunter22"),
        ({"CACHES": {"default": {"LOCATION": ["redis://:hunter22@host:6379/0"]}}}, "hunter22"),
        ({"STORAGES": {"default": {"OPTIONS": {"access_key": "AKIA123456"}}}}, "AKIA123456"),
        ({"API_TOKENS": {"billing": ("t0k3n-one", {"t0k3n-two"})}}, "t0k3n-two"),
        ({"AWS_SECRET_ACCESS_KEY": b"bytes-key"}, "bytes-key"),
        ({"api_key": "lower case"}, "lower case"),
        ({"MYSQL_PWD": "hunter22"}, "hunter22"),
        ({"FTP_PASS": "hunter22"}, "hunter22"),
        ({"STRIPE_SIGNATURE": "whsec_123"}, "whsec_123"),
        ({"SENTRY_DSN": "https://abcdef0123@o1.ingest.sentry.io/2"},
         "https://abcdef0123@o1.ingest.sentry.io/2"),
        ({"BROKER_URL": "amqp://guest:hunter22@rabbit//"}, "hunter22"),
        ({"DATABASE_URL": "postgres://u:p%40ss%2Fword@db/x"}, "p%40ss%2Fword"),
        ({"DATABASE_URL": "postgres://u:p%40ss%2Fword@db/x"}, "p@ss/word"),
        ({"DATABASE_URL": "postgres://u:p@ss:word@db/x"}, "p@ss:word"),
        ({"REPORTING_DSN": "postgres://u:hunter22@db/x"}, "hunter22"),
        ({"REPORTING_DSN": "postgres://u:hunter22@db/x"}, "postgres://u:hunter22@db/x"),
        ({"PRIVATE_KEY": "-----BEGIN-----\nMIIB\n-----END-----\n"},
         "-----BEGIN-----\nMIIB\n-----END-----"),
        ({"NAMED": {"BY_THE_SITE": "call me anything"}}, "call me anything"),
    ],
)  # fmt: skip
def test_secrets_are_found(site: dict[str, Any], secret: str) -> None:
    assert secret in find_secrets(site, {}, ["by_the_site"])
    assert secret in find_secrets({}, {"x": "y"} | site, ["by_the_site"])


@pytest.mark.parametrize(
    "site",
    [
        {"PWD": "/srv/site", "OLDPWD": "/srv/other"},
        {"LANG": "en_GB.UTF-8", "KEYBOARD": "qwertyuiop", "MONKEY": "capuchin", "PATH": "/usr/bin"},
        {"ROOT_URLCONF": "site.urls", "COMPASS": "north-east", "BYPASS": "everything"},
        {"PASSWORD": "short", "TOKEN": "", "SECRET_KEY": None, "API_KEY": 1234567},
        {
            "DEBUG": True,
            "ADMINS": [("A", "a@example.com")],
            "HOME_PAGE": "https://example.com/a:b@c",
        },
        {"DATABASE_URL": "sqlite:////srv/site/db.sqlite3", "PROXY": "http://proxy.example:3128"},
        {"DATABASE_URL": "postgres://user@host/x", "OTHER_URL": "postgres://u:short@host/x"},
        {"API_KEY": "      \n", "OTHER_TOKEN": b"\0\0\0\0\0\0\0x"},
    ],
)
def test_other_settings_are_not_secrets(site: dict[str, Any]) -> None:
    assert find_secrets(site, {}) == set()


def test_recursive_settings_end() -> None:
    site: dict[str, Any] = {"PASSWORD": "hunter22"}
    site["SELF"] = [site, site]

    assert find_secrets(site, {}) == {"hunter22"}

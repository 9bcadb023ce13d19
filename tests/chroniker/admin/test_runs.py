"""The page of a run: its facts, its output with gaps, the live tail and the download."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import now as utc_now

from chroniker.admin import run_list, run_output
from chroniker.admin.output_segments import MAX_LINES
from chroniker.enums import MissedReason, RunStatus, Stream
from chroniker.models import Host, Job, JobState, OutputChunk, Run
from tests.factories import make_chunk, make_job, make_output, make_run, make_running
from tests.support.admin import admin_url

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

HOSTILE = "<script>alert(1)</script>\r\nX-Evil: 1"


@pytest.fixture
def run(db: None) -> Run:
    return make_run(make_job(name="Nightly import"))


def page(client: Client, run: Run) -> str:
    answer = client.get(admin_url("run_change", run))
    assert answer.status_code == 200
    return answer.content.decode()


def download(client: Client, run: Run, **query: str) -> tuple[str, HttpResponse]:
    answer: Any = client.get(admin_url("run_output", run), query)
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode(), answer


def tail(client: Client, run: Run, query: str = "") -> dict[str, Any]:
    answer = client.get(admin_url("run_tail", run) + ("?" + query if query else ""))
    assert answer.status_code == 200
    result: dict[str, Any] = answer.json()
    return result


def shown_texts(part: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            segment["stream"],
            unescape("\n".join(re.findall(r"<li>(.*?)</li>", segment["html"], re.S)))
            + ("" if segment["open"] or not segment["length"] else "\n"),
        )
        for segment in part["segments"]
    ]


def shown_output(text: str) -> list[str]:
    """The lines of each piece of output on the page, as a browser would show them."""
    panel = text.partition('id="chroniker-output"')[2]
    return [
        unescape("\n".join(re.findall(r"<li>(.*?)</li>", lines, re.S)))
        for lines in re.findall(r'<ol class="chroniker-lines"[^>]*>(.*?)</ol>', panel, re.S)
    ]


def line_numbers(text: str) -> list[int]:
    """The number of the first line of each piece of output on the page."""
    panel = text.partition('id="chroniker-output"')[2]
    return [int(n) for n in re.findall(r'<ol class="chroniker-lines" start="(\d+)">', panel)]


# --- the list and the facts ---


def test_list_shows_each_ending(root: Client) -> None:
    job = make_job(name="alpha")
    make_run(job, status=RunStatus.FAILED, exit_code=3, trigger="retry", ran_on="web7")
    make_run(job, status=RunStatus.FAILED, signal=9, duration_seconds=3725.0)
    make_run(job, status=RunStatus.LOST, signal=250)
    make_run(job, status=RunStatus.MISSED, missed_reason=MissedReason.DOWNTIME, missed_slots=12)
    make_running(job)
    text = root.get("/admin/chroniker/run/").content.decode()
    for word in ("alpha", "retry", "web7", "SIGKILL (9)", "signal 250", "1 h 02 min", "lost",
                 "missed", "downtime", "running"):  # fmt: skip
        assert word in text


def test_run_list_query_count_is_the_same_for_60_runs_and_3(root: Client) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def count(rows: int) -> int:
        for _ in range(rows):
            make_run(make_job())
        with CaptureQueriesContext(connection) as queries:
            assert root.get("/admin/chroniker/run/").status_code == 200
        return len(queries)

    count(1)
    assert count(2) == count(57) <= 10


def test_list_is_filtered_and_searched(root: Client) -> None:
    Host.objects.create(name="web1")
    alpha = make_run(make_job(name="alpha"), status="failed", error="needle", ran_on="web1")
    beta = make_run(make_job(name="beta"))
    for query, expected in {
        "q=needle": {alpha}, "q=beta": {beta}, "status__exact=failed": {alpha},
        "ran_on=web1": {alpha}, f"job__id__exact={beta.job_id}": {beta},
    }.items():  # fmt: skip
        answer = root.get("/admin/chroniker/run/?" + query)
        assert set(answer.context["cl"].result_list) == expected, query


def test_search_finds_runs_by_the_names_of_jobs_or_by_errors(root: Client) -> None:
    first = make_run(make_job(name="send invoices"), error="connection refused")
    second = make_run(make_job(name="send mail"), error="no invoices: timeout")
    third = make_run(make_job(name="report"), error="timeout of 5 s")
    for text, expected in {
        "invoices": {first}, "send": {first, second}, "MAIL send": {second},
        "timeout": {second, third}, '"of 5"': {third}, "refused connection": {first},
        "nothing like it": set(),
    }.items():  # fmt: skip
        answer = root.get("/admin/chroniker/run/", {"q": text})
        assert set(answer.context["cl"].result_list) == expected, text


@pytest.mark.parametrize("query", ["", "?q=of+one", "?q=boom"])
def test_list_does_not_count_all_runs(
    root: Client, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(run_list, "MAX_COUNTED", 3)
    job = make_job(name="runs of one")
    for _ in range(3):
        make_run(job, error="boom")
    text = root.get(f"/admin/chroniker/run/{query}").content.decode()
    assert "There are more than" not in text
    make_run(job, error="boom")
    with CaptureQueriesContext(connection) as queries:
        text = root.get(f"/admin/chroniker/run/{query}").content.decode()
    assert "There are more than 3; these are the newest." in text
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()]
    assert all("LIMIT 4" in sql for sql in counts if "chroniker_run" in sql), counts


def test_search_by_name_does_not_join_the_jobs_to_count(root: Client) -> None:
    make_run(make_job(name="alpha"))
    with CaptureQueriesContext(connection) as queries:
        root.get("/admin/chroniker/run/?q=alpha")
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()]
    assert counts
    assert not any("JOIN" in sql or "LIKE" in sql.upper() for sql in counts), counts


def test_page_shows_outcome_and_error(root: Client) -> None:
    run = make_run(
        make_job(name="beta", timezone="Asia/Tokyo"), status=RunStatus.FAILED, exit_code=3,
        error="ValueError: <b>bad</b>\nin row 7", cpu_seconds=1.5, max_rss_bytes=52_428_800,
        parts_done=1, parts_total=4, stdout_bytes=2048,
    )  # fmt: skip
    text = page(root, run)
    for word in ("ValueError: &lt;b&gt;bad&lt;/b&gt;\nin row 7", "1.50 s", "50.0", "1 of 4 (25",
                 "JST", "2.0"):  # fmt: skip
        assert word in text
    missed = make_run(
        run.job, status=RunStatus.MISSED, missed_reason=MissedReason.DEADLINE, missed_slots=1234
    )
    assert "1,234 slots (deadline)" in page(root, missed)


# --- output ---


def test_output_is_interleaved_escaped_and_named_by_stream(root: Client, run: Run) -> None:
    make_output(
        run, ("stdout", "one\n"), ("stdout", "two\n"), ("stderr", "<script>alert(1)</script>"),
        ("log", "INFO x"), ("stdout", "three & 'four'\n"),
    )  # fmt: skip
    text = page(root, run)
    assert "<script>alert" not in text
    shown = ["one\ntwo", "<script>alert(1)</script>", "INFO x", "three & 'four'"]
    assert shown_output(text) == shown
    assert line_numbers(text) == [1, 3, 3, 3]
    names = re.findall(r'<span class="chroniker-stream">(\w+)</span>', text)
    assert names == ["stdout", "stderr", "log", "stdout"]
    assert "run-tail.js" not in text


def test_leading_newline_is_kept(root: Client, run: Run) -> None:
    make_output(run, ("stdout", "\n\nx"))
    assert shown_output(page(root, run)) == ["\n\nx"]


def test_dropped_output_is_shown_at_each_position(root: Client, run: Run) -> None:
    make_output(run, ("stdout", "head"), ("stderr", "late", 77), ("stdout", "tail", 12_349))
    Run.objects.filter(pk=run.pk).update(stdout_bytes=20_000, log_bytes=5)
    run.refresh_from_db()
    gaps = [
        "… 77 bytes of stderr not stored …", "… 12,345 bytes of stdout not stored …",
        "… 7,647 bytes of stdout not stored …", "… 5 bytes of log not stored …",
    ]  # fmt: skip
    assert re.findall(r'<p class="chroniker-gap">(.*?)</p>', page(root, run)) == gaps
    text, _ = download(root, run)
    assert text == f"head\n{gaps[0]}\nlate\n{gaps[1]}\ntail\n{gaps[2]}\n{gaps[3]}\n"
    assert download(root, run, stream="stderr")[0] == f"{gaps[0]}\nlate"
    Run.objects.filter(pk=run.pk).update(status="running", ended_at=None)
    assert gaps[2] not in page(root, run)


def test_long_output_shows_its_end_and_downloads_whole(root: Client, run: Run) -> None:
    pieces = [("stdout", f"{number:06d}" + "x" * 993 + "\n") for number in range(1000)]
    make_output(run, ("stderr", "first words\n"), *pieces)
    text = page(root, run)
    shown = shown_output(text)
    assert len(shown) == 1
    assert 190_000 < len(shown[0]) <= 200_000
    assert shown[0].startswith("000800")
    assert shown[0].rstrip().endswith("000999" + "x" * 993)
    assert "Only a part of the stored output is shown" in text
    assert line_numbers(text) == [802]
    assert "not stored" not in text
    assert len(text) < 300_000
    whole, _ = download(root, run)
    assert whole == "first words\n" + "".join(text for _, text in pieces)


def test_escaped_bytes_do_not_exceed_the_page_limit(run: Run) -> None:
    for number in range(4):
        OutputChunk.objects.create(
            run=run, stream="stdout", offset=number * 60_000, size=60_000,
            text=r"\xff" * 60_000, written_at=utc_now(),
        )  # fmt: skip
    part = run_output.read_tail(run)
    assert sum(len(segment.text) for segment in part.segments) == 200_000
    assert part.earlier


def test_download_holds_few_chunks_in_memory(run: Run, django_assert_num_queries: Any) -> None:
    make_output(run, *[("stdout", f"{number}\n") for number in range(120)])
    with django_assert_num_queries(4):
        assert "".join(run_output.iter_text(run)) == "".join(f"{n}\n" for n in range(120))


def test_download_is_a_plain_text_attachment(root: Client) -> None:
    run = make_run(make_job(name=HOSTILE))
    make_output(run, ("stdout", "<b>Grüße</b> \ud7ff\n"))
    text, answer = download(root, run)
    assert text == "<b>Grüße</b> \ud7ff\n"
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch(r'attachment; filename="[\w.-]+\.txt"', answer["Content-Disposition"])
    assert "X-Evil" not in answer
    nameless = make_run(make_job(name="日本語"))
    name = download(root, nameless)[1]["Content-Disposition"]
    assert name.endswith(f'"job-run-{nameless.pk}.txt"')
    assert root.get(admin_url("run_output", run), {"stream": "../x"}).status_code == 404


@pytest.mark.parametrize("stream", Stream.values)
def test_one_stream_alone_can_be_downloaded(root: Client, run: Run, stream: str) -> None:
    make_output(run, ("stdout", "a"), ("stderr", "b"), ("log", "c"), ("stdout", "A"))
    text, answer = download(root, run, stream=stream)
    assert text == {"stdout": "aA", "stderr": "b", "log": "c"}[stream]
    assert f"-{stream}.txt" in answer["Content-Disposition"]


# --- the live tail ---


def test_tail_continues_where_the_page_ends(root: Client) -> None:
    state = make_running(make_job(), parts_done=1, parts_total=4)
    run = state.current_run
    assert run is not None
    make_output(run, ("stdout", "one\n"), ("stderr", "oops"))
    text = page(root, run)
    assert "run-tail.js" in text
    found = re.search(r'data-tail-url="([^"]+)"', text)
    assert found is not None
    cursor = unescape(found[1]).partition("?")[2]
    nothing = tail(root, run, cursor)
    assert (nothing["segments"], nothing["running"], nothing["more"]) == ([], True, False)
    make_chunk(run, "stdout", 4, "two\n")
    make_chunk(run, "stderr", 100, "<i>")
    part = tail(root, run, nothing["next"])
    assert shown_texts(part) == [("stdout", "two\n"), ("stderr", "<i>")]
    assert part["segments"][1]["gap"] == "… 96 bytes of stderr not stored …"
    assert tail(root, run, part["next"])["segments"] == []
    assert shown_texts(tail(root, run)) == [
        ("stdout", "one\n"), ("stderr", "oops"), ("stdout", "two\n"), ("stderr", "<i>"),
    ]  # fmt: skip


def test_output_already_shown_by_tail_is_not_a_gap(root: Client) -> None:
    run = make_running(make_job()).current_run
    assert run is not None
    make_output(run, ("stdout", "head"))
    pushed_out = make_chunk(run, "stdout", 4, "seen")
    cursor = tail(root, run)["next"]
    pushed_out.delete()
    make_chunk(run, "stdout", 8, "next")
    assert [s["gap"] for s in tail(root, run, cursor)["segments"]] == [""]
    assert "… 4 bytes of stdout not stored …" in page(root, run)


def test_tail_reports_end_of_run(root: Client, run: Run) -> None:
    make_output(run, ("stdout", "done\n"))
    Run.objects.filter(pk=run.pk).update(stdout_bytes=9)
    part = tail(root, run)
    assert (part["running"], part["status"], part["label"]) == (False, "succeeded", "succeeded")
    assert part["segments"][-1]["gap"] == "… 4 bytes of stdout not stored …"


def test_tail_says_what_overwrites_the_last_line_and_continues_its_colours(root: Client) -> None:
    run = make_running(make_job()).current_run
    assert run is not None
    make_output(run, ("stdout", "10%\r20%"))
    first = tail(root, run)
    make_chunk(run, "stdout", 7, "\r30%\r40%\r\n\x1b[1;31mred")
    second = tail(root, run, first["next"])
    (segment,) = second["segments"]
    assert segment["overwrites"] and segment["open"] and not segment["returns"]
    make_chunk(run, "stdout", 30, " still\n50%\r")
    third = tail(root, run, second["next"])
    (segment,) = third["segments"]
    assert 'class="chroniker-ansi-bold chroniker-ansi-fg-1"> still</span>' in segment["html"]
    assert segment["returns"] and not segment["overwrites"]
    assert 'data-returns="1"' in page(root, run)
    text = page(root, run)
    assert "40%" in text and "30%" not in text and "20%" not in text


def test_lines_of_a_page_and_of_a_response_are_limited(root: Client, run: Run) -> None:
    """Hundreds of thousands of list items would take seconds to write and to show."""
    texts = ["\n" * 30_000, "\x1b[1mx\n" * 20_000 + f"\x1b[{'1;' * 20_000}m", "last\n"]
    make_output(run, *[("stdout", text) for text in texts])
    part = run_output.read_tail(run)
    assert sum(segment.text.count("\n") for segment in part.segments) == MAX_LINES
    html = page(root, run)
    assert html.count("<li") < MAX_LINES + 100
    assert "45,001 lines are not shown; the download has them" in html
    assert 'start="45002"' in html and "chroniker-ansi-bold" in html
    answer = tail(root, run)
    assert sum(segment["html"].count("<li>") for segment in answer["segments"]) == MAX_LINES
    assert download(root, run)[0] == "".join(texts)


def test_tail_is_paginated(root: Client) -> None:
    run = make_running(make_job()).current_run
    assert run is not None
    make_output(run, *[("stdout", str(number % 10) * 50_000) for number in range(10)])
    cursor, collected, parts = "", "", 0
    while True:
        part = tail(root, run, cursor)
        collected += "".join(text for _, text in shown_texts(part))
        cursor, parts = part["next"], parts + 1
        if not part["more"]:
            break
    assert parts == 3
    assert collected == "".join(str(number) * 50_000 for number in range(10))


@pytest.mark.parametrize(
    "query",
    [
        "after=x",
        "after=-1",
        "after=1e3",
        "after=²",
        "after=",
        "after=1&stdout=x",
        "after=1&style_stdout=1;x",
        f"after={10**30}",
    ],
)
def test_invalid_tail_cursor_is_rejected(root: Client, run: Run, query: str) -> None:
    assert root.get(admin_url("run_tail", run) + "?" + query).status_code == 400


def test_one_run_never_shows_the_output_of_another(root: Client, run: Run) -> None:
    other = make_run(make_job())
    make_output(other, ("stdout", "secret"))
    assert "secret" not in page(root, run)
    assert tail(root, run)["segments"] == []
    assert download(root, run)[0] == ""


# --- parts, search, neighbours ---


def test_earlier_and_later_parts_are_reached_by_links(root: Client, run: Run) -> None:
    pieces = [("stdout", f"{number:06d}" + "x" * 993 + "\n") for number in range(500)]
    make_output(run, *pieces)

    def follow(text: str, label: str) -> str:
        found = re.search(rf'<a href="(\?[^"#]*)#chroniker-output">{label}</a>', text)
        assert found is not None, label
        return root.get(admin_url("run_change", run) + unescape(found[1])).content.decode()

    end = page(root, run)
    assert shown_output(end)[0].startswith("000300")
    middle = follow(end, "Earlier")
    assert shown_output(middle)[0].startswith("000100")
    assert line_numbers(middle) == [101]
    first = follow(middle, "Earlier")
    assert shown_output(first)[0].startswith("000000")
    assert ">Earlier<" not in first
    assert shown_output(follow(first, "Later"))[0].startswith("000100")
    assert shown_output(follow(middle, "Beginning"))[0].startswith("000000")
    assert shown_output(follow(first, "End"))[0].startswith("000300")


def test_output_is_searched_and_each_line_leads_to_its_place(root: Client, run: Run) -> None:
    pieces = [("stdout", f"{number:06d}" + "x" * 993 + "\n") for number in range(500)]
    make_output(run, *pieces[:5], ("stderr", "Fatal: <img src=x>\n"), *pieces[5:])
    text = root.get(admin_url("run_change", run), {"q": "fatal: <IMG"}).content.decode()
    assert "1 line contains" in text
    assert "<mark>Fatal: &lt;img</mark>" in text
    found = re.search(r'<li value="6"><a href="([^"#]*)#', text)
    assert found is not None
    there = root.get(admin_url("run_change", run) + unescape(found[1])).content.decode()
    assert shown_output(there)[0] == "Fatal: <img src=x>"
    assert line_numbers(there)[0] == 6
    nothing = root.get(admin_url("run_change", run), {"q": "<script>"}).content.decode()
    assert "No stored line contains “&lt;script&gt;”" in nothing


def test_failed_run_begins_with_the_error_and_the_end_of_stderr(root: Client) -> None:
    run = make_run(make_job(), status="failed", error="boom")
    make_output(run, ("stdout", "x\n" * 50), ("stderr", "".join(f"line {n}\n" for n in range(30))))
    head = page(root, run).partition('id="chroniker-facts-title"')[0]
    assert "boom" in head
    assert "line 29" in head and "line 10" in head
    assert "line 9<" not in head
    assert "Last lines of stderr" not in page(root, make_run(make_job()))


def test_neighbours_are_linked(root: Client) -> None:
    job = make_job()
    good, bad, last = make_run(job), make_run(job, status="failed"), make_run(job, status="lost")
    make_run(make_job())
    text = page(root, last)
    links = re.findall(r'<a href="/admin/chroniker/run/(\d+)/change/"[^>]*>([^<]+)<', text)
    assert (str(bad.pk), "Previous run") in links
    assert (str(good.pk), "Last good run before") in links
    assert "Next run" not in text
    assert f'href="{admin_url("run_change", bad)}" rel="next"' in page(root, good)


def test_page_says_how_much_was_kept(root: Client, run: Run) -> None:
    make_output(run, ("stdout", "x" * 2000), ("stderr", "y" * 500))
    Run.objects.filter(pk=run.pk).update(stdout_bytes=50_000_000)
    text = page(root, run)
    assert "stdout: 2.0\xa0KB of 47.7\xa0MB are stored, the rest was not kept." in text
    assert "stderr: all 500\xa0bytes are stored." in text


def test_running_run_shows_its_progress_and_what_is_stored_so_far(root: Client) -> None:
    run = make_running(make_job(), parts_done=3, parts_total=4).current_run
    assert run is not None
    make_output(run, ("stdout", "x" * 2000))
    text = page(root, run)
    assert "3 of 4 (75 %)" in text
    assert "stdout: 2.0\xa0KB so far." in text
    assert "run-tail.js" in text
    assert ">Stop<" in text
    part = tail(root, run)
    assert "3 of 4 (75 %)" in part["fragments"]["facts"]
    Run.objects.filter(pk=run.pk).update(status="failed", ended_at=utc_now(), error="boom")
    part = tail(root, run)
    assert "boom" in part["fragments"]["problem"]
    assert ">Stop<" not in page(root, run)


def test_arguments_of_this_run_are_shown(root: Client, run: Run) -> None:
    assert "arguments of this run" not in page(root, run)
    Run.objects.filter(pk=run.pk).update(args="--since <yesterday>")
    assert "--since &lt;yesterday&gt;" in page(root, run)


@pytest.mark.one_database
def test_page_of_a_run_makes_at_most_ten_queries(root: Client) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    job = make_job()
    make_run(job)
    failed = make_run(job, status="failed", error="x")
    make_output(failed, *[("stdout", "x" * 9000)] * 40, ("stderr", "y\n"))
    running = make_running(make_job()).current_run
    assert running is not None
    make_output(running, ("stdout", "x\n"))
    page(root, failed)
    for run in (failed, running):
        with CaptureQueriesContext(connection) as queries:
            page(root, run)
        assert len(queries) <= 10, [query["sql"][:90] for query in queries]


@pytest.mark.slow
@pytest.mark.one_database
def test_fifty_megabytes_are_opened_searched_and_streamed_in_bounded_memory(
    root: Client, run: Run
) -> None:
    import tracemalloc

    line = "x" * 99 + "\n"
    chunk = line * 655
    OutputChunk.objects.bulk_create(
        (
            OutputChunk(run=run, stream="stdout", offset=n * len(chunk), size=len(chunk),
                        text=chunk if n != 400 else "needle\n" + chunk[7:], written_at=utc_now())
            for n in range(800)
        ),
        batch_size=50,
    )  # fmt: skip
    Run.objects.filter(pk=run.pk).update(stdout_bytes=52_400_000)
    tracemalloc.start()
    try:
        text = page(root, run)
        assert "Lines are numbered from the first one shown" in text
        assert len(text) < 300_000
        found = root.get(admin_url("run_change", run), {"q": "needle"}).content.decode()
        assert "1 line contains" in found
        answer: Any = root.get(admin_url("run_output", run))
        assert sum(len(part) for part in answer.streaming_content) == 52_400_000
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
    finally:
        tracemalloc.stop()


# --- deletion ---


def test_runs_are_deleted_with_their_output_and_counters_stay(root: Client, run: Run) -> None:
    make_output(run, ("stdout", "x"))
    state = JobState.objects.create(
        job=run.job, last_run=run, last_status="succeeded", runs_total=9
    )
    others = [make_run(run.job) for _ in range(120)]
    data = {"action": "delete_selected", "_selected_action": [r.pk for r in [run, *others]]}
    asked = root.post("/admin/chroniker/run/", data).content.decode()
    assert "… and 21 more" in asked
    root.post("/admin/chroniker/run/", {**data, "post": "yes"})
    assert not Run.objects.exists()
    assert not OutputChunk.objects.exists()
    state.refresh_from_db()
    assert (state.runs_total, state.last_run, state.last_status) == (9, None, "succeeded")
    assert Job.objects.count() == 1


def test_urls_are_named() -> None:
    assert reverse("admin:chroniker_run_tail", args=[7]) == "/admin/chroniker/run/7/tail/"
    assert reverse("admin:chroniker_run_output", args=[7]) == "/admin/chroniker/run/7/output.txt"
    assert reverse("admin:chroniker_job_run", args=[7]) == "/admin/chroniker/job/7/run/"


def test_run_list_can_be_filtered_by_job_name(admin_client: Any) -> None:
    """Dashboards and alerts know a job only by its name."""
    job, other = make_job(name="nightly & report"), make_job(name="other one")
    for each in (job, other):
        Run.objects.create(job=each, scheduled_for=utc_now(), status="succeeded")
    page = admin_client.get("/admin/chroniker/run/", {"job__name": "nightly & report"})
    assert page.status_code == 200
    text = page.content.decode()
    assert "nightly &amp; report" in text and "other one" not in text

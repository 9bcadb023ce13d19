/* Appends new output to the page of a run until the run ends. */
(function () {
    "use strict";

    const PAUSE_MS = 2000;
    const MAX_PAUSE_MS = 30000;
    const MAX_SEGMENTS = 2000;
    const MAX_CHARACTERS = 1000000;

    const output = document.getElementById("chroniker-output");
    const status = document.getElementById("chroniker-tail-status");
    if (!output || !status || !output.dataset.tailUrl) {
        return;
    }
    const base = output.dataset.tailUrl.split("?")[0];
    let cursor = output.dataset.tailUrl.split("?")[1];
    let pause = PAUSE_MS;
    let characters = output.textContent.length;

    function lastPre(stream) {
        const segment = output.lastElementChild;
        return segment && segment.classList.contains("chroniker-stream-" + stream)
            ? segment.querySelector("pre")
            : null;
    }

    function add(segment) {
        if (segment.gap) {
            const gap = document.createElement("p");
            gap.className = "chroniker-gap";
            gap.textContent = segment.gap;
            output.append(gap);
        }
        if (!segment.text) {
            return;
        }
        characters += segment.text.length;
        const open = segment.gap ? null : lastPre(segment.stream);
        if (open) {
            open.append(segment.text);
            return;
        }
        const box = document.createElement("div");
        const name = document.createElement("span");
        const pre = document.createElement("pre");
        box.className = "chroniker-segment chroniker-stream-" + segment.stream;
        name.className = "chroniker-stream";
        name.textContent = segment.stream;
        pre.textContent = segment.text;
        box.append(name, pre);
        output.append(box);
    }

    function shorten() {
        while (
            output.children.length > MAX_SEGMENTS ||
            (characters > MAX_CHARACTERS && output.children.length > 1)
        ) {
            characters -= output.firstElementChild.textContent.length;
            output.firstElementChild.remove();
        }
        const pre = characters > MAX_CHARACTERS && output.querySelector("pre");
        if (pre) {
            pre.textContent = pre.textContent.slice(-MAX_CHARACTERS / 2);
            characters = pre.textContent.length;
        }
    }

    function show(part) {
        const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 20;
        if (part.segments.length) {
            const none = document.getElementById("chroniker-no-output");
            if (none) {
                none.remove();
            }
        }
        part.segments.forEach(add);
        shorten();
        cursor = part.next;
        if (atEnd) {
            output.scrollTop = output.scrollHeight;
        }
    }

    function ended(part) {
        const link = document.createElement("a");
        link.href = window.location.href;
        link.textContent = status.dataset.reload;
        status.replaceChildren(status.dataset.ended + " " + part.label + ". ", link);
    }

    async function poll() {
        const shown = status.textContent;
        try {
            const response = await fetch(base + "?" + cursor, {
                credentials: "same-origin",
                headers: {"Accept": "application/json"},
            });
            if (!response.ok) {
                throw new Error(response.statusText);
            }
            const part = await response.json();
            show(part);
            if (!part.running && !part.more) {
                ended(part);
                return;
            }
            pause = part.more ? 0 : PAUSE_MS;
            if (shown !== runningText) {
                status.textContent = runningText;
            }
        } catch (error) {
            pause = Math.min(Math.max(pause, PAUSE_MS) * 2, MAX_PAUSE_MS);
            status.textContent = status.dataset.unavailable;
        }
        setTimeout(poll, pause);
    }

    const runningText = status.textContent;
    output.scrollTop = output.scrollHeight;
    poll();
})();

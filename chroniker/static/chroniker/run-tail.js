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
    let lineIsOpen = Boolean(output.dataset.open);
    let lineReturns = Boolean(output.dataset.returns);
    let waiting = false;
    const fragments = {};
    let characters = output.textContent.length;

    function lastList(stream) {
        const segment = output.lastElementChild;
        return segment && segment.classList.contains("chroniker-stream-" + stream)
            ? segment.querySelector("ol")
            : null;
    }

    function add(segment) {
        if (segment.gap) {
            const gap = document.createElement("p");
            gap.className = "chroniker-gap";
            gap.textContent = segment.gap;
            output.append(gap);
        }
        if (!segment.length) {
            return;
        }
        characters += segment.length;
        const lines = document.createElement("ol");
        lines.className = "chroniker-lines";
        lines.start = segment.line;
        lines.innerHTML = segment.html;
        const last = segment.gap ? null : lastList(segment.stream);
        if (last) {
            // The end of a line whose beginning is already shown, or what overwrites it.
            const rest = lineIsOpen && last.lastElementChild && lines.firstElementChild;
            if (rest) {
                if (rest.childNodes.length && (lineReturns || segment.overwrites)) {
                    last.lastElementChild.replaceChildren();
                }
                last.lastElementChild.append(...rest.childNodes);
                rest.remove();
            }
            last.append(...lines.children);
        } else {
            const box = document.createElement("div");
            const name = document.createElement("span");
            box.className = "chroniker-segment chroniker-stream-" + segment.stream;
            name.className = "chroniker-stream";
            name.textContent = segment.stream;
            box.append(name, lines);
            output.append(box);
        }
        lineIsOpen = segment.open;
        lineReturns = segment.returns;
    }

    function shorten() {
        while (
            output.children.length > MAX_SEGMENTS ||
            (characters > MAX_CHARACTERS && output.children.length > 1)
        ) {
            characters -= output.firstElementChild.textContent.length;
            output.firstElementChild.remove();
        }
        const list = characters > MAX_CHARACTERS && output.querySelector("ol");
        while (list && characters > MAX_CHARACTERS / 2 && list.children.length > 1) {
            characters -= list.firstElementChild.textContent.length + 1;
            list.firstElementChild.remove();
            list.start += 1;
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
        for (const [name, html] of Object.entries(part.fragments)) {
            const place = document.querySelector('[data-live="' + name + '"]');
            if (place && fragments[name] !== html) {
                place.innerHTML = html;
                fragments[name] = html;
            }
        }
        cursor = part.next;
        if (atEnd) {
            output.scrollTop = output.scrollHeight;
        }
    }

    function ended(part) {
        for (const place of document.querySelectorAll('[data-live-if="running"]')) {
            place.hidden = true;
        }
        status.textContent = status.dataset.ended + " " + part.label + ".";
    }

    async function poll() {
        if (document.hidden) {
            waiting = true;
            return;
        }
        const shown = status.textContent;
        try {
            const response = await fetch(base + "?" + cursor, {
                credentials: "same-origin",
                headers: {"Accept": "application/json"},
            });
            if (response.redirected || response.status === 403 || response.status === 404) {
                status.textContent = status.dataset.signedOut;
                return;
            }
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

    document.addEventListener("visibilitychange", function () {
        if (!document.hidden && waiting) {
            waiting = false;
            poll();
        }
    });

    const runningText = status.textContent;
    output.scrollTop = output.scrollHeight;
    poll();
})();

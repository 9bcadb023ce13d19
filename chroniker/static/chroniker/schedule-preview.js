/* Shows the next runs of a schedule while the user types it. */
(function () {
    "use strict";

    const PAUSE_MS = 300;

    function line(text, className) {
        const p = document.createElement("p");
        p.textContent = text;
        if (className) {
            p.className = className;
        }
        return p;
    }

    function show(box, preview) {
        const parts = [];
        if (preview.error) {
            parts.push(line(preview.error, "chroniker-error"));
        } else {
            parts.push(line(preview.explain));
            if (preview.times.length) {
                const list = document.createElement("ul");
                for (const time of preview.times) {
                    const item = document.createElement("li");
                    item.textContent = time;
                    list.append(item);
                }
                parts.push(line(box.dataset.next), list);
            }
            if (preview.ends) {
                parts.push(line(box.dataset.ends));
            }
            for (const warning of preview.warnings) {
                parts.push(line(warning, "chroniker-warning"));
            }
        }
        box.replaceChildren(...parts);
    }

    function start() {
        const schedule = document.getElementById("id_schedule");
        const box = document.getElementById("chroniker-preview");
        if (!schedule || !box || !schedule.dataset.previewUrl) {
            return;
        }
        const inputs = {
            schedule: schedule,
            zone: document.getElementById("id_timezone"),
            name: document.getElementById("id_name"),
        };
        let timer = null;
        let request = null;

        async function refresh() {
            if (request) {
                request.abort();
            }
            request = new AbortController();
            const query = new URLSearchParams();
            for (const [key, input] of Object.entries(inputs)) {
                query.set(key, input ? input.value : "");
            }
            try {
                const response = await fetch(schedule.dataset.previewUrl + "?" + query, {
                    credentials: "same-origin",
                    headers: {"Accept": "application/json"},
                    signal: request.signal,
                });
                if (!response.ok) {
                    throw new Error(response.statusText);
                }
                show(box, await response.json());
            } catch (error) {
                if (error.name !== "AbortError") {
                    box.replaceChildren(line(box.dataset.unavailable));
                }
            }
        }

        for (const input of Object.values(inputs)) {
            if (input) {
                input.addEventListener("input", function () {
                    clearTimeout(timer);
                    timer = setTimeout(refresh, PAUSE_MS);
                });
            }
        }
        refresh();
    }

    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", start);
    } else {
        start();
    }
})();

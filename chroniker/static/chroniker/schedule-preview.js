/* Shows below the schedule what it would do, while it is typed. */
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

    function show(box, answer) {
        const parts = [];
        if (answer.error) {
            parts.push(line(answer.error, "chroniker-error"));
        } else {
            parts.push(line(answer.explain));
            if (answer.times.length) {
                const list = document.createElement("ul");
                for (const time of answer.times) {
                    const item = document.createElement("li");
                    item.textContent = time;
                    list.append(item);
                }
                parts.push(line(box.dataset.next), list);
            }
            if (answer.ends) {
                parts.push(line(box.dataset.ends));
            }
            for (const warning of answer.warnings) {
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
        let asked = null;

        async function refresh() {
            if (asked) {
                asked.abort();
            }
            asked = new AbortController();
            const query = new URLSearchParams();
            for (const [key, input] of Object.entries(inputs)) {
                query.set(key, input ? input.value : "");
            }
            try {
                const response = await fetch(schedule.dataset.previewUrl + "?" + query, {
                    credentials: "same-origin",
                    headers: {"Accept": "application/json"},
                    signal: asked.signal,
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

/* Keeps the visible parts of a page current: one request for all of them, often while something
   runs, seldom otherwise, and none while the tab is hidden. */
(function () {
    "use strict";

    const FAST_MS = 2000;
    const SLOW_MS = 30000;
    const ACTIVE_MS = 5000;
    const CLOCK_MS = 15000;
    const MAX_ROWS = 200;
    const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

    const box = document.getElementById("chroniker-live");
    if (!box) {
        return;
    }
    const words = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", {
        numeric: "always",
    });
    const shown = new WeakMap();
    let pause = FAST_MS;
    let timer = null;
    let etag = "";
    let asked = "";

    function relative(moment) {
        const seconds = Math.round((moment - Date.now()) / 1000);
        const unit = UNITS.find((each) => Math.abs(seconds) >= each[1]) || UNITS[3];
        return words.format(Math.trunc(seconds / unit[1]), unit[0]);
    }

    function updateTimes() {
        for (const time of document.querySelectorAll("time[datetime]")) {
            const text = time.firstChild;
            if (text && text.nodeType === Node.TEXT_NODE) {
                const current = relative(new Date(time.dateTime));
                if (text.data !== current) {
                    text.data = current;
                }
            }
        }
    }

    function visibleRows() {
        const edge = window.innerHeight;
        const rows = [];
        for (const row of document.querySelectorAll("[data-live-row]")) {
            const place = row.getBoundingClientRect();
            if (place.bottom > -edge && place.top < 2 * edge) {
                rows.push(row.dataset.liveRow);
            }
        }
        return rows.slice(0, MAX_ROWS);
    }

    function address() {
        if (!box.dataset.rows) {
            return box.dataset.url;
        }
        const rows = visibleRows();
        return rows.length ? box.dataset.url + "?ids=" + rows.join(",") : "";
    }

    function show(content) {
        for (const [name, html] of Object.entries(content.fragments)) {
            const part = document.querySelector('[data-live="' + CSS.escape(name) + '"]');
            if (part && shown.get(part) !== html) {
                const focused = part.contains(document.activeElement) && document.activeElement;
                const link = focused && focused.getAttribute("href");
                part.innerHTML = html;
                shown.set(part, html);
                const again = link && part.querySelector('a[href="' + CSS.escape(link) + '"]');
                if (again) {
                    again.focus();
                }
            }
        }
        for (const [name, on] of Object.entries(content.flags)) {
            for (const part of document.querySelectorAll('[data-live-if="' + name + '"]')) {
                part.hidden = !on;
            }
        }
        updateTimes();
    }

    function schedule(after) {
        clearTimeout(timer);
        timer = document.hidden ? null : setTimeout(poll, after);
    }

    let active = true;

    async function poll() {
        const url = address();
        if (!url) {
            schedule(ACTIVE_MS);
            return;
        }
        if (url !== asked) {
            etag = "";
            asked = url;
        }
        try {
            const response = await fetch(url, {
                cache: "no-store",
                credentials: "same-origin",
                headers: Object.assign(
                    {"Accept": "application/json"}, etag ? {"If-None-Match": etag} : {}
                ),
            });
            if (response.redirected || response.status === 403 || response.status === 404) {
                box.textContent = box.dataset.signedOut;
                return;
            }
            if (response.status === 304) {
                pause = Math.min(pause * 1.5, active ? ACTIVE_MS : SLOW_MS);
            } else if (response.ok) {
                const content = await response.json();
                const first = !etag;
                etag = response.headers.get("ETag") || "";
                active = content.active;
                show(content);
                pause = first && !active ? SLOW_MS / 4 : FAST_MS;
            } else {
                throw new Error(response.statusText);
            }
            if (box.textContent) {
                box.textContent = "";
            }
        } catch (error) {
            pause = Math.min(pause * 2, SLOW_MS);
            box.textContent = box.dataset.unavailable;
        }
        schedule(pause);
    }

    document.addEventListener("visibilitychange", function () {
        if (!document.hidden) {
            updateTimes();
        }
        schedule(0);
    });
    setInterval(function () {
        if (!document.hidden) {
            updateTimes();
        }
    }, CLOCK_MS);
    updateTimes();
    schedule(FAST_MS);
})();

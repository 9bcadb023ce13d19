/* Shows the help of the command, and the signature of the task, in the form of a job. */
(function () {
    "use strict";

    const PAUSE_MS = 300;

    function start() {
        showHelp("command");
        showHelp("task");
    }

    function showHelp(field) {
        const input = document.getElementById("id_" + field);
        const box = document.getElementById("chroniker-" + field + "-help");
        if (!input || !box || !input.dataset.helpUrl) {
            return;
        }
        const text = box.querySelector("pre");
        let timer = null;
        let asked = "";

        async function refresh() {
            const name = input.value.trim();
            if (name === asked) {
                return;
            }
            asked = name;
            box.hidden = true;
            if (!name) {
                return;
            }
            try {
                const response = await fetch(
                    input.dataset.helpUrl + "?" + new URLSearchParams({[field]: name}),
                    {credentials: "same-origin", headers: {"Accept": "application/json"}}
                );
                const content = response.ok ? await response.json() : {};
                if (asked === name && content.help) {
                    text.textContent = content.help;
                    box.hidden = false;
                }
            } catch (error) {
                asked = "";
            }
        }

        input.addEventListener("input", function () {
            clearTimeout(timer);
            timer = setTimeout(refresh, PAUSE_MS);
        });
        refresh();
    }

    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", start);
    } else {
        start();
    }
})();

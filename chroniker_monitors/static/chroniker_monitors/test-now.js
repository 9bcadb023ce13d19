/* "Test now" and "Backtest" without leaving the page: submit the form and show only the result from the returned
   page. Without this script, the browser shows that page. */
(function () {
    "use strict";

    function showMessage(box, text, className) {
        const line = document.createElement("p");
        line.textContent = text;
        if (className) {
            line.className = className;
        }
        box.replaceChildren(line);
    }

    function start() {
        document.querySelectorAll("button[data-result]").forEach(connect);
    }

    function connect(button) {
        const box = document.getElementById(button.dataset.result);
        if (!box) {
            return;
        }
        button.addEventListener("click", async function (event) {
            event.preventDefault();
            const data = new FormData(button.form);
            data.set(button.name, button.value);
            button.disabled = true;
            showMessage(box, button.dataset.waiting);
            try {
                const response = await fetch(window.location.href, {
                    method: "POST",
                    body: data,
                    credentials: "same-origin",
                });
                if (!response.ok) {
                    throw new Error(response.statusText);
                }
                const page = new DOMParser().parseFromString(await response.text(), "text/html");
                const result = page.getElementById(box.id);
                const errors = page.querySelectorAll("#content ul.errorlist");
                box.replaceChildren(...document.importNode(result, true).childNodes);
                for (const list of errors) {
                    box.append(document.importNode(list, true));
                }
            } catch (error) {
                showMessage(box, button.dataset.failed, "chroniker-error");
            } finally {
                button.disabled = false;
            }
        });
    }

    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", start);
    } else {
        start();
    }
})();

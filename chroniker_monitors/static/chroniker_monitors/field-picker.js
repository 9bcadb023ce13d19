/* Update the suggested fields when the model changes. Without this script, they are updated when
   the form is submitted by "Test now". */
(function () {
    "use strict";

    function start() {
        const model = document.getElementById("id_param_model");
        const list = document.getElementById("chroniker-fields");
        const shown = document.getElementById("chroniker-field-names");
        if (!model || !list || !model.dataset.fieldsUrl) {
            return;
        }
        let lastRequest = 0;

        model.addEventListener("change", async function () {
            const request = ++lastRequest;
            let names = [];
            try {
                const query = new URLSearchParams({model: model.value});
                const response = await fetch(model.dataset.fieldsUrl + "?" + query, {
                    credentials: "same-origin",
                    headers: {"Accept": "application/json"},
                });
                names = response.ok ? (await response.json()).fields : [];
            } catch (error) {
                names = [];
            }
            if (request !== lastRequest) {
                return;
            }
            list.replaceChildren(...names.map(function (name) {
                const option = document.createElement("option");
                option.value = name;
                return option;
            }));
            if (shown) {
                shown.textContent = names.join(", ");
            }
        });
    }

    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", start);
    } else {
        start();
    }
})();

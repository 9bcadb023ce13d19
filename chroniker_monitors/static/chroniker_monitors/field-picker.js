/* Update the suggested fields when the model changes. Without this script, they are updated when
   the form is submitted by "Test now". */
(function () {
    "use strict";

    /* Offer names in a list, and show them below the field. */
    function offer(listId, shownId, names) {
        const list = document.getElementById(listId);
        const shown = document.getElementById(shownId);
        if (list) {
            list.replaceChildren(...names.map(function (name) {
                const option = document.createElement("option");
                option.value = name;
                return option;
            }));
        }
        if (shown) {
            shown.textContent = names.join(", ") || "-";
        }
    }

    function start() {
        const model = document.getElementById("id_param_model");
        if (!model || !model.dataset.fieldsUrl) {
            return;
        }
        let lastRequest = 0;

        model.addEventListener("change", async function () {
            const request = ++lastRequest;
            let found = {fields: [], groups: []};
            try {
                const query = new URLSearchParams({model: model.value});
                const response = await fetch(model.dataset.fieldsUrl + "?" + query, {
                    credentials: "same-origin",
                    headers: {"Accept": "application/json"},
                });
                found = response.ok ? await response.json() : found;
            } catch (error) {
                console.warn(error);
            }
            if (request !== lastRequest) {
                return;
            }
            offer("chroniker-fields", "chroniker-field-names", found.fields);
            offer("chroniker-groups", "chroniker-group-names", found.groups);
        });
    }

    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", start);
    } else {
        start();
    }
})();

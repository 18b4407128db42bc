// The fields of a JSON Schema, as `lib/schema.js` has them.
import { html } from "../html.js";
import { Icon } from "./icons.js";

/** Draw a field; `onDraft` gets the whole draft of this field anew. */
export function Field({ field, draft, path, errors, onDraft }) {
  const id = `f-${path.join("-") || "root"}`;
  const wrong = errors.get(path.join(".")) ?? "";
  const common = {
    id,
    "aria-invalid": wrong ? "true" : undefined,
    "aria-describedby": wrong || field.help ? `${id}-more` : undefined,
    "aria-required": field.required && !field.nullable ? "true" : undefined,
  };
  if (field.kind === "object") {
    const inside = field.fields.map(
      (part) =>
        html`<${Field}
          key=${part.name}
          field=${part}
          draft=${draft?.[part.name]}
          path=${[...path, part.name]}
          errors=${errors}
          onDraft=${(value) => onDraft({ ...draft, [part.name]: value })}
        />`,
    );
    if (!path.length)
      return html`<div class="fields">
        ${inside}${!inside.length && html`<p class="dim">It takes an empty object.</p>`}
      </div>`;
    return html`<fieldset class="group">
      <legend>${field.label}</legend>
      ${inside}
    </fieldset>`;
  }
  if (field.kind === "list") {
    const items = draft ?? [];
    return html`<fieldset class="group">
      <legend>${field.label || "Items"}</legend>
      ${items.map(
        (item, n) =>
          html`<div class="item" key=${n}>
            <${Field}
              field=${{ ...field.item, label: `${field.label || "item"} ${n + 1}` }}
              draft=${item}
              path=${[...path, n]}
              errors=${errors}
              onDraft=${(value) => onDraft(items.map((old, at) => (at === n ? value : old)))}
            />
            <button
              type="button"
              class="ghost square"
              aria-label=${`Remove ${field.label || "item"} ${n + 1}`}
              onClick=${() => onDraft(items.filter((_, at) => at !== n))}
            >
              <${Icon} name="close" />
            </button>
          </div>`,
      )}
      <button
        type="button"
        class="ghost small"
        onClick=${() => onDraft([...items, blank(field.item)])}
      >
        <${Icon} name="plus" /> Add
      </button>
    </fieldset>`;
  }
  const more = html`<p class=${wrong ? "field-wrong" : "field-help"} id=${`${id}-more`}>
    ${wrong || field.help}
  </p>`;
  const name = html`<span
    >${field.label || "Input"}${!field.required && html` <small>optional</small>`}</span
  >`;
  const set = (event) => onDraft(event.target.value);
  if (field.kind === "none") return html`<p class="dim">${field.label || "Input"}: null</p>`;
  if (field.kind === "flag" && field.required) {
    return html`<label class="check"
        ><input
          type="checkbox"
          ...${common}
          checked=${draft}
          onChange=${(event) => onDraft(event.target.checked)}
        />
        ${field.label}</label
      >${more}`;
  }
  if (field.kind === "flag") {
    return html`<label class="field"
        >${name}<select
          ...${common}
          value=${String(draft)}
          onChange=${(event) => onDraft({ true: true, false: false, null: null }[event.target.value])}
        >
          <option value="null">left out</option>
          <option value="true">true</option>
          <option value="false">false</option>
        </select></label
      >${more}`;
  }
  if (field.kind === "choice") {
    return html`<label class="field"
        >${name}<select ...${common} value=${draft} onChange=${set}>
          <option value="">${field.required ? "choose" : "left out"}</option>
          ${field.options.map((one) => html`<option key=${JSON.stringify(one)} value=${JSON.stringify(one)}>${typeof one === "string" ? one : JSON.stringify(one)}</option>`)}
        </select></label
      >${more}`;
  }
  if (field.kind === "json") {
    return html`<label class="field"
        >${name}<textarea
          ...${common}
          class="mono"
          rows="4"
          spellcheck="false"
          value=${draft}
          placeholder="JSON"
          onInput=${set}
        ></textarea></label
      >${more}`;
  }
  if (field.kind === "number") {
    return html`<label class="field"
        >${name}<input
          ...${common}
          type="text"
          inputmode=${field.whole ? "numeric" : "decimal"}
          class="short"
          value=${draft}
          onInput=${set} /></label
      >${more}`;
  }
  return html`<label class="field"
      >${name}<input
        ...${common}
        type=${field.input}
        value=${draft}
        step=${field.input === "datetime-local" ? "1" : undefined}
        autocomplete="off"
        onInput=${set} /></label
    >${more}`;
}

function blank(field) {
  if (field.kind === "object")
    return Object.fromEntries(field.fields.map((part) => [part.name, blank(part)]));
  if (field.kind === "list") return [];
  if (field.kind === "flag") return field.required ? false : null;
  return "";
}

// A dialog over the page: the browser keeps the focus in it, and it goes back to where it was.
import { html } from "../html.js";
import { useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { Icon } from "./icons.js";
import { Store, useStore } from "./store.js";

const open = new Store(null);

/** Show a dialog: `make(close)` gives its contents; `title` names it. */
export function show(title, make, { wide = false } = {}) {
  open.set({ title, make, wide, back: document.activeElement });
}

export const shown = () => open.value !== null;

export function close() {
  const back = open.value?.back;
  open.set(null);
  if (back?.isConnected) queueMicrotask(() => back.focus());
}

export function Dialogs() {
  const what = useStore(open);
  return what && html`<${Dialog} key=${what.title} ...${what} />`;
}

function Dialog({ title, make, wide }) {
  const ref = useRef(null);
  useLayoutEffect(() => {
    ref.current.showModal();
    const first =
      ref.current.querySelector("[autofocus]") ??
      ref.current.querySelector("form :is(input, textarea, select)");
    first?.focus();
  }, []);
  return html`<dialog
    ref=${ref}
    class=${wide ? "wide" : ""}
    aria-labelledby="dialog-title"
    onClose=${close}
    onClick=${(event) => event.target === ref.current && event.detail > 0 && close()}
  >
    <div class="dialog-inside">
      <header>
        <h2 id="dialog-title">${title}</h2>
        <button type="button" class="ghost square" aria-label="Close" onClick=${close}>
          <${Icon} name="close" />
        </button>
      </header>
      ${make(close)}
    </div>
  </dialog>`;
}

/** A form that does one thing over the network, says what went wrong, and closes when it is done. */
export function Doing({ act, label, danger = false, disabled = false, children }) {
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setWrong("");
    try {
      await act();
      close();
    } catch (error) {
      setWrong(error.message);
      setBusy(false);
    }
  };
  return html`<form class="doing" onSubmit=${submit} novalidate>
    <div class="dialog-body">${children}</div>
    <p class="wrong" role="alert">${wrong}</p>
    <footer>
      <button type="button" onClick=${close}>Close</button>
      <button type="submit" class=${danger ? "danger" : "primary"} disabled=${busy || disabled}>
        ${busy ? "Working …" : label}
      </button>
    </footer>
  </form>`;
}

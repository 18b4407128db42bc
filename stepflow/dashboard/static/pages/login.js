// Sign in with an API key.
import { html } from "../html.js";
import { signIn } from "../net/api.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";

export function LoginPage() {
  const field = useRef(null);
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const key = field.current.value.trim();
    if (!key || busy) return;
    setBusy(true);
    setWrong("");
    try {
      await signIn(key);
    } catch (error) {
      setWrong(
        error.status === 401
          ? "That key is not good: it is unknown, revoked or over."
          : error.message,
      );
      setBusy(false);
      field.current.select();
    }
  };
  return html`<section class="login" aria-labelledby="login-title">
    <form class="card" onSubmit=${submit}>
      <h1 id="login-title">Sign in</h1>
      <label class="field"
        ><span>API key</span>
        <input
          ref=${field}
          id="key"
          class="mono"
          type="password"
          autocomplete="current-password"
          spellcheck="false"
          aria-invalid=${wrong ? "true" : undefined}
          aria-describedby="login-wrong"
        />
      </label>
      <p class="wrong" id="login-wrong" role="alert">${wrong}</p>
      <button type="submit" class="primary" aria-disabled=${String(busy)}>Sign in</button>
      <p class="dim">
        The server prints its key when it is first started, and keeps it in its data directory:
        <code>cat stepflow-data/api.key</code>. Others are made with
        <code>stepflow keys create</code>.
      </p>
    </form>
  </section>`;
}

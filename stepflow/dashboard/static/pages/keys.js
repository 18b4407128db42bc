// API keys, for those who may make and revoke them.
import { html } from "../html.js";
import { millis } from "../lib/format.js";
import { api, lacks } from "../net/api.js";
import { Act, Empty, Failed, Loading, Time } from "../parts/bits.js";
import { Doing, close, show } from "../parts/dialog.js";
import { Icon } from "../parts/icons.js";
import { copy, say } from "../parts/say.js";
import { useData } from "../parts/use.js";
import { useState } from "../vendor/hooks.js";

const SCOPES = ["trigger", "read", "notify", "control", "admin"];

export function KeysPage() {
  const { data, error, again } = useData(api.keys);
  const why = lacks("admin");
  if (error && !data)
    return html`<section class="page"><${Failed} error=${error} retry=${again} /></section>`;
  if (!data) return html`<section class="page"><${Loading} /></section>`;
  const keys = data.keys ?? [];
  return html`<section class="page" aria-label="Keys">
    <div class="toolbar">
      <h1>Keys</h1>
      <p class="dim">Who may call, and what for.</p>
      <span class="grow"></span>
      <${Act}
        label="Make a key …"
        primary
        why=${why}
        onAct=${() => show("Make a key", () => html`<${Make} again=${again} />`)}
      />
    </div>
    ${
      !keys.length
        ? html`<${Empty}
            title="No keys but the server's own"
            command="stepflow keys create ci --scope trigger --scope read"
            >Keys of their own, with scopes and an end, are made here or from a terminal:<//
          >`
        : html`<div class="card scroll-x" tabindex="0" role="region" aria-label="Keys">
            <table>
              <thead>
                <tr>
                  ${["Name", "Id", "Scopes", "Made", "Ends"].map((name) => html`<th scope="col">${name}</th>`)}
                  <th scope="col"><span class="offscreen">Acts</span></th>
                </tr>
              </thead>
              <tbody>
                ${keys.map(
                  (key) =>
                    html`<tr key=${key.id ?? key.name}>
                      <th scope="row" class="wrap">${key.name}</th>
                      <td><code>${key.id ?? "–"}</code></td>
                      <td>
                        ${(key.scopes ?? SCOPES).map((scope) => html`<span class="tag">${scope}</span>`)}
                      </td>
                      <td><${Time} ms=${millis(key.createdAt)} /></td>
                      <td>
                        ${key.revokedAt ? html`<span class="badge s-cancelled"><i aria-hidden="true"></i>revoked</span>` : key.expiresAt ? html`<${Time} ms=${millis(key.expiresAt)} />` : html`<span class="dim">never</span>`}
                      </td>
                      <td class="end">
                        ${key.id && !key.revokedAt && html`<${Act} label="Revoke …" danger why=${why} onAct=${() => revoke(key, again)} />`}
                      </td>
                    </tr>`,
                )}
              </tbody>
            </table>
          </div>`
    }
  </section>`;
}

function revoke(key, again) {
  const act = async () => {
    await api.revokeKey(key.id);
    say(`“${key.name}” is revoked.`, "good");
    again();
  };
  show(
    "Revoke this key?",
    () =>
      html`<${Doing} label="Revoke" danger act=${act}
        ><p>
          Whoever uses “${key.name}” is refused from now on, sessions that it opened too. There is
          no way back.
        </p><//
      >`,
  );
}

function Make({ again }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["trigger", "read"]);
  const [ttl, setTtl] = useState("");
  const [made, setMade] = useState("");
  const [wrong, setWrong] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    setWrong("");
    try {
      const body = { name, scopes };
      if (ttl) body.ttl = ttl;
      const answer = await api.makeKey(body);
      setMade(answer.key);
      again();
    } catch (error) {
      setWrong(error.message);
    }
  };
  if (made) {
    return html`<div class="dialog-body">
      <p>This is shown once. Keep it where secrets are kept.</p>
      <label class="field"
        ><span>Key</span
        ><input
          id="made-key"
          class="mono"
          readonly
          value=${made}
          onFocus=${(event) => event.target.select()}
      /></label>
      <footer class="plain">
        <button type="button" onClick=${() => copy(made, "Key copied")}>
          <${Icon} name="copy" /> Copy</button
        ><button type="button" class="primary" onClick=${close}>Done</button>
      </footer>
    </div>`;
  }
  return html`<form class="doing" onSubmit=${submit}>
    <div class="dialog-body">
      <label class="field"
        ><span>Name</span
        ><input
          type="text"
          required
          maxlength="64"
          value=${name}
          onInput=${(event) => setName(event.target.value)}
      /></label>
      <fieldset class="field">
        <legend>Scopes</legend>
        ${SCOPES.map((scope) => html`<label class="check" key=${scope}><input type="checkbox" checked=${scopes.includes(scope)} onChange=${() => setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope])} /> ${scope}</label>`)}
      </fieldset>
      <label class="field"
        ><span>Ends</span>
        <select value=${ttl} onChange=${(event) => setTtl(event.target.value)}>
          <option value="">Never</option>
          ${["1d", "7d", "30d", "90d", "365d"].map((one) => html`<option key=${one} value=${one}>in ${one}</option>`)}
        </select>
      </label>
    </div>
    <p class="wrong" role="alert">${wrong}</p>
    <footer>
      <button type="button" onClick=${close}>Close</button
      ><button type="submit" class="primary" disabled=${!name || !scopes.length}>Make</button>
    </footer>
  </form>`;
}

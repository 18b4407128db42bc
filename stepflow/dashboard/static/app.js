import { base } from "./base.js";
import { html } from "./html.js";
import { render } from "./vendor/preact.js";
import { useEffect, useState } from "./vendor/hooks.js";

function App() {
  const [health, setHealth] = useState("…");
  useEffect(() => {
    fetch(`${base}health`)
      .then((response) => response.json())
      .then((body) => setHealth(body.status))
      .catch(() => setHealth("not reached"));
  }, []);
  return html`<main>
    <h1>Stepflow</h1>
    <p>The server is <output id="health">${health}</output>.</p>
  </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
